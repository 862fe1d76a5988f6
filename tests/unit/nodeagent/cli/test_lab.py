"""The `nodeagent lab` command line; at work in tests/e2e/test_lab.py."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent.cli.lab import lab
from nodeagent.lab import layout


def test_help_shows_a_whole_session() -> None:
    """The five commands that a newcomer types, each on its line."""
    lines = [line.strip() for line in CliRunner().invoke(lab, ["--help"]).output.splitlines()]
    assert "nodeagent lab up" in lines
    assert "nodeagent lab exec host1 -- nodeagent intention allow shop web" in lines
    assert "nodeagent lab down" in lines


@pytest.mark.parametrize("arguments", [["exec", "host1"], ["exec", "host1", "--"], ["run", "host1", "web"]])
def test_a_command_is_asked_for(arguments: list[str]) -> None:
    """With an example of how to give it."""
    result = CliRunner().invoke(lab, arguments)
    assert result.exit_code == 2
    assert "after `--`" in result.output


def test_a_lab_that_is_not_up_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What, and the cure; no traceback."""
    monkeypatch.setattr(layout, "BASE", tmp_path)
    result = CliRunner().invoke(lab, ["run", "--name", "no-such-lab", "host1", "web", "--", "sleep", "--help"])
    assert result.exit_code == 1
    assert result.output == "Error: no lab 'no-such-lab' is up; run: nodeagent lab up --name no-such-lab\n"


def test_status_of_nothing_tells_how_to_start() -> None:
    """Also for a program, which sees an exit status."""
    result = CliRunner().invoke(lab, ["status", "--name", "no-such-lab"])
    assert result.exit_code == 1
    assert "nodeagent lab up --name no-such-lab" in result.output


def test_all_labs_and_one_lab_contradict_each_other() -> None:
    """Nobody's lab is taken down by a command that cannot be meant."""
    result = CliRunner().invoke(lab, ["down", "--all", "--name", "mine"])
    assert (result.exit_code, "contradict" in result.output) == (2, True)
