"""`nodeagent upgrade`: what it says without doing anything. That it does it is tried for real in tests/e2e."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent import limits
from nodeagent.cli.main import main
from nodeagent.cli.upgrade import judge_version
from nodeagent.cli.versions import switch
from nodeagent.control.generations import Reloaded


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two versions, the older one current."""
    for version in ("1.0", "2.0"):
        program = tmp_path / "versions" / version / "bin" / "nodeagent"
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
    switch(tmp_path, "current", "1.0")
    return tmp_path


def test_what_is_installed_is_listed(root: Path) -> None:
    """For people and for programs."""
    shown = CliRunner().invoke(main, ["upgrade", "--list", "--root", str(root)])
    assert [line.split() for line in shown.output.splitlines()] == [["VERSION"], ["1.0", "current"], ["2.0"]]
    told = json.loads(CliRunner().invoke(main, ["upgrade", "--list", "-o", "json", "--root", str(root)]).output)
    assert told["versions"][1] == {"version": "2.0", "current": False, "previous": False}
    assert told["apiVersion"] == "nodeagent/v1"


@pytest.mark.parametrize(("version", "code"), [("2.0", 3), ("9.9", 1)])
def test_without_an_agent_or_a_version_nothing_is_switched(root: Path, version: str, code: int) -> None:
    """The exit status says which."""
    done = CliRunner().invoke(main, ["upgrade", version, "--yes", "--root", str(root), "--socket", str(root / "none.sock")])
    assert done.exit_code == code
    assert (root / "current").readlink() == Path("versions/1.0")


def test_an_agent_that_was_not_started_by_the_link_is_found_out() -> None:
    """It reloads well, and is what it was."""
    assert judge_version(Reloaded("done"), "1.0", "2.0").state == "refused"
    for so_far in (Reloaded("waiting", "x"), Reloaded("refused", "y")):
        assert judge_version(so_far, "1.0", "2.0") == so_far
    assert judge_version(Reloaded("done"), "2.0", "2.0") == Reloaded("done")


def test_the_next_version_gets_time_for_all_that_a_reload_consists_of() -> None:
    """Else a version would be taken back that is about to serve."""
    assert limits.UPGRADE_S > limits.RELOAD_CHECK_S + limits.SETTLE_S + 2 * limits.START_S
