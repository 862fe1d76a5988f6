"""Commands that go on by themselves; a plain file stands for a cgroup's."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from nodeagent.lab.errors import LabError
from nodeagent.lab.launch import Launched
from nodeagent.lab.state import try_start_time
from tests.support.eventually import eventually

Start = Callable[..., Launched]
WITHIN_S = 20.0


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """`start("sh", "-c", …)`; its output goes to tmp_path/log."""
    return lambda *command: Launched(tmp_path / "cgroup.procs", command, tmp_path / "log", dict(os.environ))


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3), ("true", 0), ("kill -TERM $$", 128 + signal.SIGTERM)])
def test_the_status_is_the_commands(start: Start, tmp_path: Path, command: str, status: int) -> None:
    """As a shell tells it, as often as it is asked; what it said is in the log."""
    with start("sh", "-c", f"echo out; echo err >&2; {command}") as launched:
        assert launched.try_status(WITHIN_S) == status
        assert launched.try_status() == status
    assert (tmp_path / "log").read_text() == "out\nerr\n"
    assert (tmp_path / "cgroup.procs").read_text() == "0\n"


def test_a_command_goes_on_when_nobody_looks_any_more(start: Start, tmp_path: Path) -> None:
    """In a session of its own, with no end of ours left open; it is init's child, or whoever adopts here."""
    with start("sh", "-c", "echo $$; exec sleep 600") as launched:
        assert launched.try_status(0.01) is None
        log = tmp_path / "log"
        eventually(lambda: log.read_text().endswith("\n"), WITHIN_S, "it has said its pid")
        pid = int(log.read_text())
        pipes = {Path(f"/proc/self/fd/{end.fileno()}").readlink() for end in (launched._told, launched._complaints)}
    try:
        assert try_start_time(pid) is not None
        assert os.getsid(pid) == pid
        held = {each.readlink() for each in Path(f"/proc/{pid}/fd").iterdir()}
        assert not held & pipes
    finally:
        os.kill(pid, signal.SIGKILL)


def test_what_cannot_be_started_says_why(tmp_path: Path) -> None:
    """In the shell's own words: the cgroup is gone, or the disk is read-only."""
    for procs, log in (("absent/cgroup.procs", "log"), ("cgroup.procs", "absent/log")):
        with pytest.raises(LabError, match=r"`true` could not be started: .*absent"):
            Launched(tmp_path / procs, ["true"], tmp_path / log, dict(os.environ))
