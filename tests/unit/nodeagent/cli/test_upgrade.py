"""`nodeagent upgrade`: what it says without doing anything. That it does it is tried for real in tests/e2e."""

import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click import ClickException
from click.testing import CliRunner

from nodeagent import limits
from nodeagent.cli import upgrade as upgrade_module
from nodeagent.cli.main import main
from nodeagent.cli.upgrade import judge_version
from nodeagent.cli.versions import ROOT, switch
from nodeagent.control.generations import Reloaded
from nodeagent.control.report import Status
from nodeagent.errors import ConfigError
from tests.support.status_of import status_of


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
    assert told["versions"][1] == {"version": "2.0", "current": False, "running": False, "previous": False}
    assert told["apiVersion"] == "nodeagent/v1"


@pytest.mark.parametrize(("version", "code"), [("2.0", 3), ("9.9", 4)])
def test_without_an_agent_or_a_version_nothing_is_switched(root: Path, version: str, code: int) -> None:
    """The exit status says which."""
    done = CliRunner().invoke(main, ["upgrade", version, "--yes", "--root", str(root), "--socket", str(root / "none.sock")])
    assert done.exit_code == code
    assert (root / "current").readlink() == Path("versions/1.0")


def test_an_agent_that_was_not_started_by_the_link_is_found_out() -> None:
    """It reloads well, and is what it was."""
    assert judge_version(Reloaded("done"), "1.0", "2.0", ROOT).state == "refused"
    for so_far in (Reloaded("waiting", "x"), Reloaded("refused", "y")):
        assert judge_version(so_far, "1.0", "2.0", ROOT) == so_far
    assert judge_version(Reloaded("done"), "2.0", "2.0", ROOT) == Reloaded("done")


class Host:
    """An agent that is asked and signalled, as the test plays it. Owned by one test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, answer: Callable[["Host"], Status]) -> None:
        self.reloads: list[str] = []
        """Where the link led at each signal."""
        self._root = root
        self._answer = answer
        monkeypatch.setattr(upgrade_module, "ask", lambda *_, **__: self._answer(self))
        monkeypatch.setattr(upgrade_module, "SupervisorHandle", lambda pid: self if pid == 7 else None)

    def reload(self) -> None:
        """As the real one."""
        self.reloads.append(self.current)

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    @property
    def current(self) -> str:
        """The version that starts next."""
        return (self._root / "current").readlink().name

    def upgrade(self) -> Any:
        """What the command says and ends with."""
        return CliRunner().invoke(main, ["upgrade", "2.0", "--yes", "--root", str(self._root)])

    def listed(self) -> list[str]:
        """The lines of `--list` below its head."""
        said = CliRunner().invoke(main, ["upgrade", "--list", "--root", str(self._root)]).output
        return [" ".join(line.split()) for line in said.splitlines()[1:]]


def test_a_version_whose_agent_never_answers_is_taken_back_unasked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that was known before is told, and the version of before is seen to serve."""
    monkeypatch.setattr(limits, "UPGRADE_S", 0.2)

    def answer(host: Host) -> Status:
        if host.reloads[-1:] == ["2.0"]:
            raise ClickException("nobody answers")
        return status_of(generation=1 + len(host.reloads), version="1.0")

    host = Host(monkeypatch, root, answer)
    done = host.upgrade()
    assert (done.exit_code, host.reloads, host.current) == (1, ["2.0", "1.0"], "1.0")
    assert "2.0 was not taken: not within 0.2 s: nobody answers; 1.0 serves" in done.output


def test_it_says_so_when_nobody_serves_after_the_way_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link leads back all the same."""
    monkeypatch.setattr(limits, "UPGRADE_S", 0.2)

    def answer(host: Host) -> Status:
        if host.reloads:
            raise ClickException("nobody answers")
        return status_of(generation=1, version="1.0")

    host = Host(monkeypatch, root, answer)
    done = host.upgrade()
    assert (done.exit_code, host.current) == (1, "1.0")
    assert "that 1.0 serves again could not be seen: not within 0.2 s: nobody answers" in done.output


def test_a_defect_takes_the_version_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says what is so."""

    def answer(host: Host) -> Status:
        if host.reloads:
            raise RuntimeError("a defect")
        return status_of(generation=1, version="1.0")

    host = Host(monkeypatch, root, answer)
    done = host.upgrade()
    assert (done.exit_code, host.reloads, host.current) == (1, ["2.0", "1.0"], "1.0")
    assert "2.0 was not taken: a defect; 1.0 is what starts next, and the agent was told" in done.output


ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", ENDS)
def test_an_interrupt_takes_the_version_back(number: signal.Signals, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever signal, and however often: the old version is current, runs, and is listed as both; handlers are as before."""
    before = [signal.getsignal(each) for each in ENDS]

    def answer(host: Host) -> Status:
        if host.reloads[-1:] == ["2.0"]:
            signal.raise_signal(number)
            signal.raise_signal(signal.SIGTERM)
        return status_of(generation=1, version="1.0")

    host = Host(monkeypatch, root, answer)
    done = host.upgrade()
    assert (done.exit_code, host.reloads, host.current) == (1, ["2.0", "1.0"], "1.0")
    assert f"2.0 was not taken: interrupted by {number.name}; 1.0 is what starts next, and the agent was told" in done.output
    assert host.listed() == ["1.0 current, runs", "2.0"]
    assert before == [signal.getsignal(each) for each in ENDS]


def test_an_interrupt_when_the_version_serves_already_comes_too_late(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is done: the new version is current, and the one of before is known."""

    def answer(host: Host) -> Status:
        if host.reloads:
            signal.raise_signal(signal.SIGHUP)
        return status_of(generation=1 + len(host.reloads), version=f"{1 + len(host.reloads)}.0")

    host = Host(monkeypatch, root, answer)
    done = host.upgrade()
    assert (done.exit_code, host.reloads, host.current) == (0, ["2.0"], "2.0")
    assert (root / "previous").readlink().name == "1.0"


def test_one_that_was_killed_half_way_is_told_and_can_be_done_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could take it back: the link leads to what does not run. The way back is to what ran, whatever an upgrade before said."""
    switch(root, "previous", "2.0")
    switch(root, "current", "2.0")
    host = Host(monkeypatch, root, lambda host: status_of(generation=1 + len(host.reloads), version=f"{1 + len(host.reloads)}.0"))
    told = "1.0 runs, 2.0 starts next: an upgrade is under way, or was killed: run it again"
    assert host.listed() == ["1.0 runs", "2.0 current, ran before", told]
    assert (host.upgrade().exit_code, host.reloads) == (0, ["2.0"])
    assert host.listed() == ["1.0 ran before", "2.0 current, runs"]


@pytest.mark.parametrize("runs", ["1.0", "2.0"])
def test_one_that_is_killed_leaves_the_way_back(runs: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the agent took it or not. 2.0 ran before, so the link to what ran before says the wrong one until it is switched."""
    switch(root, "previous", "2.0")
    seen: list[str] = []

    def answer(host: Host) -> Status:
        if host.reloads == ["2.0"]:
            seen.extend((root / name).readlink().name for name in ("current", "previous"))
        return status_of(generation=1 + len(host.reloads), version=f"{1 + len(host.reloads)}.0")

    Host(monkeypatch, root, answer).upgrade()
    assert seen[:2] == ["2.0", "1.0"]
    host = Host(monkeypatch, root, lambda host: status_of(generation=1 + len(host.reloads), version="1.0" if host.reloads else runs))
    done = CliRunner().invoke(main, ["upgrade", "--back", "--yes", "--root", str(root)])
    assert (done.exit_code, host.reloads, host.current) == (0, ["1.0"], "1.0"), done.output


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("name", ["current", "previous"])
def test_one_that_is_killed_at_either_link_leaves_the_way_back(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch, *, back: bool
) -> None:
    """`--back` leads to what runs where that is not what starts next, else to what ran before."""
    runs, other = ("2.0", "1.0") if back else ("1.0", "2.0")
    switch(root, "current", runs)
    switch(root, "previous", other)

    class Killed(BaseException):
        """As by SIGKILL: nothing is taken back."""

    def kill(root: Path, link: str, version: str) -> None:
        if link != name:
            switch(root, link, version)
            return
        monkeypatch.setattr(upgrade_module, "switch", lambda *_: None)
        monkeypatch.setattr(upgrade_module, "forget", lambda *_: None)
        raise Killed

    host = Host(monkeypatch, root, lambda _: status_of(generation=1, version=runs))
    monkeypatch.setattr(upgrade_module, "switch", kill)
    with pytest.raises(Killed):
        CliRunner().invoke(main, ["upgrade", *(["--back"] if back else [other]), "--yes", "--root", str(root)])
    is_half_way, to = host.current == other, runs if host.current == other else other
    assert (is_half_way, host.reloads) == (name == "previous", [])
    done = CliRunner().invoke(main, ["upgrade", "--back", "--root", str(root)])
    assert (done.exit_code, f"from {host.current} to {to}, and reload" in done.output) == (0, True), done.output


def test_what_ran_before_is_as_it_was_when_nothing_is_taken(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known or not; and where both links lead to what runs, the way back is not known, which is no success."""
    for before in ("", "2.0"):
        if before:
            switch(root, "previous", before)
        host = Host(monkeypatch, root, lambda host: status_of(generation=1, version="1.0", refused=len(host.reloads)))
        assert (host.upgrade().exit_code, host.current) == (1, "1.0")
        assert (root / "previous").is_symlink() is bool(before)
    assert (root / "previous").readlink().name == "2.0"
    switch(root, "previous", "1.0")
    done = CliRunner().invoke(main, ["upgrade", "--back", "--yes", "--root", str(root)])
    assert (done.exit_code, done.output.strip()) == (4, "Error: it is not known which version ran before: 1.0 runs already")


def test_a_version_that_never_ran_is_no_way_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade to 1.5 was killed, one to 2.0 is refused: back to what runs."""
    program = root / "versions/1.5/bin/nodeagent"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    switch(root, "current", "1.5")
    host = Host(monkeypatch, root, lambda host: status_of(generation=1, version="1.0", refused=len(host.reloads)))
    assert (host.upgrade().exit_code, host.current) == (1, "1.0")


def test_an_upgrade_is_done_though_nobody_can_remember_the_way_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk: a warning, with the command that goes back."""

    def fail(root: Path, name: str, version: str) -> None:
        if name == "previous":
            raise ConfigError("previous cannot be switched to 1.0: No space left on device")
        switch(root, name, version)

    monkeypatch.setattr(upgrade_module, "switch", fail)
    done = (host := Host(monkeypatch, root, lambda host: status_of(generation=1 + len(host.reloads), version=f"{1 + len(host.reloads)}.0"))).upgrade()
    assert (done.exit_code, host.current, host.reloads) == (0, "2.0", ["2.0"])
    assert "Warning: previous cannot be switched to 1.0: No space left on device; for the way back: nodeagent upgrade 1.0 --yes" in done.output


def test_an_agent_that_became_a_third_version_is_told_as_such(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one that ran before serves now."""
    host = Host(monkeypatch, root, lambda host: status_of(generation=1 + len(host.reloads), version="3.0" if host.reloads else "1.0"))
    done = host.upgrade()
    assert (done.exit_code, host.current) == (1, "1.0")
    assert f"2.0 was not taken: the agent became 3.0: it was not started as {root}/bin/nodeagent; 3.0 serves" in done.output


def test_a_version_that_is_refused_costs_no_reload_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent has not become it."""
    host = Host(monkeypatch, root, lambda host: status_of(generation=1, version="1.0", refused=len(host.reloads)))
    done = host.upgrade()
    assert (done.exit_code, host.reloads, host.current) == (1, ["2.0"], "1.0")
    assert "2.0 was not taken: a typo; 1.0 serves" in done.output


@pytest.mark.parametrize("more", [(), ("--yes",)])
def test_an_agent_that_was_started_from_elsewhere_is_not_for_this_root(more: tuple[str, ...], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also before anything is done. A link into the root is from there."""
    host = Host(monkeypatch, root, lambda _: status_of(generation=1, version="1.0"))
    monkeypatch.setattr(upgrade_module, "try_program", lambda pid: Path("/x/bin/nodeagent") if pid == 7 else None)
    done = CliRunner().invoke(main, ["upgrade", "2.0", *more, "--root", str(root)])
    assert (done.exit_code, host.reloads, host.current) == (1, [], "1.0")
    assert f"the agent was started as /x/bin/nodeagent, not as {root}/bin/nodeagent" in done.output
    (root / "link").symlink_to(root / "versions/1.0/bin/nodeagent")
    monkeypatch.setattr(upgrade_module, "try_program", lambda _: root / "link")
    assert "would switch" in CliRunner().invoke(main, ["upgrade", "2.0", "--root", str(root)]).output


@pytest.mark.parametrize("more", [(), ("--yes",)])
def test_nothing_is_told_of_a_process_that_is_no_supervisor(more: tuple[str, ...], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is told by an unprivileged process, and its command line is whatever somebody wants to be shown."""

    def refuse(pid: int) -> None:
        raise ConfigError(f"process {pid} is not root's")

    host = Host(monkeypatch, root, lambda _: status_of(generation=1, version="1.0"))
    monkeypatch.setattr(upgrade_module, "SupervisorHandle", refuse)
    monkeypatch.setattr(upgrade_module, "try_program", lambda _: Path("/secret/nodeagent"))
    done = CliRunner().invoke(main, ["upgrade", "2.0", *more, "--root", str(root)])
    assert (done.exit_code, done.output, host.current) == (1, "Error: process 7 is not root's\n", "1.0")


def test_what_an_agent_says_commands_no_terminal(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is waited for, and afterwards."""
    monkeypatch.setattr(limits, "UPGRADE_S", 0.2)
    monkeypatch.setattr(limits, "LAB_SAY_S", 0.0)

    def answer(host: Host) -> Status:
        if host.reloads:
            raise ClickException("a\x1b]0;x\x07")
        return status_of(generation=1, version="1.0")

    done = Host(monkeypatch, root, answer).upgrade()
    assert "still waiting: a?]0;x?\n" in done.output
    assert "2.0 does not serve: not within 0.2 s: a?]0;x?; 1.0 is" in done.output
    assert "\x1b" not in done.output


def test_two_at_once_are_one_and_a_refusal(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which says who is at it. Looking is free, and the lock is no longer than the upgrade."""
    others: list[Any] = []

    def answer(host: Host) -> Status:
        if host.reloads and not others:
            others.extend([host.upgrade(), CliRunner().invoke(main, ["upgrade", "--back", "--yes", "--root", str(root)])])
            assert host.listed()[0] == "1.0 ran before"
            assert "would switch" in CliRunner().invoke(main, ["upgrade", "1.0", "--root", str(root)]).output
        return status_of(generation=1 + len(host.reloads), version=f"{1 + len(host.reloads)}.0")

    host = Host(monkeypatch, root, answer)
    done = host.upgrade()
    assert (done.exit_code, host.reloads, host.current) == (0, ["2.0"], "2.0"), done.output
    for other in others:
        assert other.exit_code == 1
        assert f"another upgrade is under way: process {os.getpid()} (" in other.output
        assert "nothing was switched" in other.output
    assert "runs already" in host.upgrade().output
    assert stat.S_IMODE((root / ".upgrade.lock").stat().st_mode) == 0o600


def test_nothing_is_switched_where_the_supervisor_is_not_known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could be told."""
    host = Host(monkeypatch, root, lambda _: status_of(generation=0, version="1.0"))
    done = host.upgrade()
    assert (done.exit_code, host.reloads, host.current) == (1, [], "1.0")
    assert "nothing was switched" in done.output


def test_a_version_that_serves_is_taken(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the one of before is remembered."""
    host = Host(monkeypatch, root, lambda host: status_of(generation=1 + len(host.reloads), version=f"{1 + len(host.reloads)}.0"))
    done = host.upgrade()
    assert (done.exit_code, host.reloads, host.current) == (0, ["2.0"], "2.0")
    assert (root / "previous").readlink().name == "1.0"


def test_programs_get_one_document_of_each_outcome(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be done, what was done, and that there is nothing to do."""
    Host(monkeypatch, root, lambda host: status_of(generation=1 + len(host.reloads), version=f"{1 + len(host.reloads)}.0"))
    argv, head = ["upgrade", "2.0", "-o", "json", "--root", str(root)], {"apiVersion": "nodeagent/v1", "version": "2.0"}
    told = [json.loads(CliRunner().invoke(main, [*argv, *more]).stdout) for more in ([], ["--yes"], ["--yes"])]
    assert told[0] == head | {"changed": False, "current": "1.0", "running": "1.0"}
    assert told[1] == head | {"changed": True, "current": "2.0", "running": "2.0"}
    assert told[2] == head | {"changed": False, "current": "2.0", "running": "2.0"}


def test_the_next_version_gets_time_for_all_that_a_reload_consists_of() -> None:
    """Else a version would be taken back that is about to serve."""
    assert limits.UPGRADE_S > limits.RELOAD_CHECK_S + limits.SETTLE_S + 2 * limits.START_S


@pytest.mark.parametrize(
    "argv", [("",), ("", "--back"), ("1.0", "--back"), ("1.0", "--list"), ("--list", "--yes"), ("--list", "--back")]
)
def test_what_contradicts_itself_is_a_usage_error(root: Path, argv: tuple[str, ...]) -> None:
    """So is an empty version, as of a variable that is not set: it must not mean the newest."""
    done = CliRunner().invoke(main, ["upgrade", *argv, "--root", str(root), "--socket", str(root / "none.sock")])
    assert done.exit_code == 2
    assert (root / "current").readlink() == Path("versions/1.0")
