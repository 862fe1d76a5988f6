"""The `nodeagent lab` command line; at work in tests/e2e/test_lab.py."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent.cli.lab import _places, _rows, lab
from nodeagent.lab import layout
from nodeagent.lab.errors import CatalogAway, CatalogSilent, LabError, NoLabName, NotInLab
from nodeagent.lab.lab import Lab
from nodeagent.lab.status import HostStatus, ServiceStatus


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
    assert result.exit_code == 4
    assert result.output == "Error: no lab 'no-such-lab' is up; run: nodeagent lab up --name no-such-lab\n"


def test_status_of_nothing_tells_how_to_start() -> None:
    """Also for a program, which sees an exit status."""
    result = CliRunner().invoke(lab, ["status", "--name", "no-such-lab"])
    assert result.exit_code == 4
    assert "nodeagent lab up --name no-such-lab" in result.output


def test_all_labs_and_one_lab_contradict_each_other() -> None:
    """Nobody's lab is taken down by a command that cannot be meant."""
    result = CliRunner().invoke(lab, ["down", "--all", "--name", "mine"])
    assert (result.exit_code, "contradict" in result.output) == (2, True)


def test_a_lab_that_is_gone_is_not_found() -> None:
    """Taking it down again says so, and a script can tell."""
    result = CliRunner().invoke(lab, ["down", "--name", "no-such-lab"])
    assert (result.exit_code, result.output) == (4, "Error: there is no lab 'no-such-lab'; see: nodeagent lab status\n")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["up", "--hosts", "0"], "1<=x<=100"),
        (["up", "--hosts", "101"], "1<=x<=100"),
        (["up", "--workers", "-1"], "0<=x<=42"),
        (["up", "--workers", "9999"], "0<=x<=42"),
        (["up", "--name", "My Lab"], "cannot name a lab"),
        (["down", "--name", "../x"], "cannot name a lab"),
        (["status", "--name", "../x"], "cannot name a lab"),
        (["exec", "--name", "", "host1", "--", "id"], "cannot name a lab"),
        (["exec", "host1", "", "--", "id"], "Invalid value for '[SERVICE]': it is empty; leave it out"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_what_cannot_be_is_a_usage_error(arguments: list[str], word: str) -> None:
    """Before anything is made."""
    result = CliRunner().invoke(lab, arguments)
    assert (result.exit_code, word in " ".join(result.output.split())) == (2, True), result.output


@pytest.mark.parametrize(
    ("error", "status"),
    [(LabError("x"), 1), (NoLabName("x"), 2), (CatalogAway("x"), 3), (NotInLab("x"), 4), (CatalogSilent("x"), 5), (LabError("\x9bx\n y"), 1)],
)
def test_each_kind_of_failure_has_its_exit_code(monkeypatch: pytest.MonkeyPatch, error: LabError, status: int) -> None:
    """As everywhere in nodeagent."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Lab, "stop", fail)
    result = CliRunner().invoke(lab, ["stop", "host1", "web"])
    assert (result.exit_code, result.output) == (status, "Error: ?x\n y\n" if "y" in str(error) else "Error: x\n")


@pytest.mark.parametrize(
    ("is_found", "status", "said"),
    [(True, 0, "web is stopped on host1\n"), (False, 4, "Error: there is no service web on host1; see: nodeagent lab status --name lab\n")],
)
def test_stop_says_what_it_did(monkeypatch: pytest.MonkeyPatch, is_found: object, status: int, said: str) -> None:
    """Also where there was nothing to stop."""
    monkeypatch.setattr(Lab, "stop", lambda *_: is_found)
    result = CliRunner().invoke(lab, ["stop", "host1", "web"])
    assert (result.exit_code, result.output) == (status, said)


@pytest.mark.parametrize(
    ("verb", "answer", "said"),
    [
        ("start", None, "the agent on host1 runs, and is healthy\n"), ("stop", True, "the agent on host1 is stopped\n"),
        ("stop", False, "no agent ran on host1\n"), ("kill", True, "the agent on host1 is killed; its rules stay\n"),
        ("kill", False, "no agent ran on host1\n"), ("reload", None, "the agent on host1 has reloaded\n"),
    ],
)  # fmt: skip
def test_what_became_of_an_agent_is_said(monkeypatch: pytest.MonkeyPatch, verb: str, answer: object, said: str) -> None:
    """A success is no silence."""
    monkeypatch.setattr(Lab, f"{verb}_agent", lambda *_: answer)
    result = CliRunner().invoke(lab, ["agent", "host1", verb])
    assert (result.exit_code, result.output) == (0, said)


def test_where_a_service_does_not_listen_is_said() -> None:
    """One family alone is a mistake more often than not."""
    (host,) = layout.hosts_of("lab", 77, 1)
    assert _places(host, (host.ipv4, host.ipv6), 80) == "10.77.0.1:80 and [fd77::1]:80"
    assert _places(host, (host.ipv6,), 80) == "[fd77::1]:80; it does not listen at 10.77.0.1"


def test_each_host_has_its_own_mode() -> None:
    """As its agent tells it; on the host's first line."""
    services = tuple(ServiceStatus(name, True, ("true",)) for name in ("shop", "web"))
    cells = [_rows(HostStatus("host1", ("10.77.0.1",), "healthy", "", services, "observe")), _rows(HostStatus("host2", (), "stopped", "", ()))]
    assert [[row[3:5] for row in rows] for rows in cells] == [[("observe", "shop"), ("", "web")], [("-", "-")]]
