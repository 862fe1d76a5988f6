"""Whom a root command signals, with real processes."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeagent.cli.supervisor_process import SupervisorHandle, try_program
from nodeagent.errors import ConfigError


@contextmanager
def process(path: Path, name: str, uid: int = 0) -> Iterator["subprocess.Popen[bytes]"]:
    """One that sleeps under this name."""
    program = path / name
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "1000"], user=uid)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory into which everybody may look."""
    for each in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        each.chmod(0o755)
    return tmp_path


def test_a_supervisor_is_reloaded(place: Path) -> None:
    """By its pidfd, so that a later process of its number would not be."""
    with process(place, "nodeagent") as child:
        with SupervisorHandle(child.pid) as supervisor:
            supervisor.reload()
            assert child.wait(20) == -signal.SIGHUP
            with pytest.raises(ProcessLookupError):
                supervisor.reload()
        with pytest.raises(ConfigError, match=f"process {child.pid}, cannot be found"):
            SupervisorHandle(child.pid)


@pytest.mark.parametrize(("name", "uid"), [("sleeper", 0), ("nodeagent", 64901)])
def test_another_process_is_not_signalled(name: str, uid: int, place: Path) -> None:
    """Whoever named it: not root's, or not called so."""
    with process(place, name, uid) as child, pytest.raises(ConfigError, match="so it is not signalled"):
        SupervisorHandle(child.pid)


@pytest.mark.parametrize("pid", [1, 0, -1])
def test_neither_init_nor_a_group_of_processes_is_signalled(pid: int) -> None:
    """Nor everybody."""
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(ConfigError, match="so it is not signalled"):
        SupervisorHandle(pid)
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_its_own_process_is_none() -> None:
    """Nothing stays open after a refusal."""
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(ConfigError):
        SupervisorHandle(os.getpid())
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_the_program_by_which_an_agent_was_started_is_known(tmp_path: Path) -> None:
    """Behind its interpreter; who is gone, or is no agent, has none."""
    assert try_program(7, tmp_path) is None
    for words, program in (("/v/bin/python\0/opt/x/bin/nodeagent\0run\0", Path("/opt/x/bin/nodeagent")), ("sleep\0", None), ("", None)):
        (tmp_path / "7").mkdir(exist_ok=True)
        (tmp_path / "7" / "cmdline").write_text(words)
        assert try_program(7, tmp_path) == program
