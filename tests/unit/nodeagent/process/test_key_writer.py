"""The program that writes keys to disk."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.process.key_writer import main

WRITER = "import sys; from nodeagent import limits; limits.KEY_FILE_S = float(sys.argv.pop(1)); from nodeagent.process.key_writer import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def memory() -> Iterator[int]:
    """What is to be written."""
    memory = os.memfd_create("test")
    os.write(memory, b"keys")
    yield memory
    os.close(memory)


@pytest.fixture(autouse=True)
def _no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in this process."""
    monkeypatch.setattr(signal, "setitimer", lambda *_: None)


def writer(path: Path, memory: int, seconds: float) -> "subprocess.Popen[bytes]":
    """The program itself, with another limit."""
    return subprocess.Popen([sys.executable, "-c", WRITER, str(seconds), str(path), str(memory)], pass_fds=(memory,))


def test_what_is_in_memory_is_on_disk_for_root_alone(tmp_path: Path, memory: int) -> None:
    """Whatever the umask; and nothing else is left there."""
    assert main([str(tmp_path / "keys"), str(memory)]) == 0
    assert [(each.name, each.stat().st_mode & 0o7777, each.read_bytes()) for each in tmp_path.iterdir()] == [("keys", 0o600, b"keys")]


def test_no_more_is_read_than_there_may_be(tmp_path: Path, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor has looked at its size before."""
    monkeypatch.setattr(limits, "KEYS_BYTES", 3)
    assert main([str(tmp_path / "keys"), str(memory)]) == 0
    assert (tmp_path / "keys").read_bytes() == b"key"


@pytest.mark.parametrize(("directory", "fd", "code"), [("none", None, 2), (".", 999, 9)])
def test_its_status_is_what_the_system_refused(directory: str, fd: int | None, code: int, tmp_path: Path, memory: int) -> None:
    """ENOENT, EBADF."""
    assert main([str(tmp_path / directory / "keys"), str(memory if fd is None else fd)]) == code


def test_it_waits_for_one_that_a_crash_has_left_but_not_for_ever(tmp_path: Path, memory: int) -> None:
    """Two at once would write into the same file."""
    directory = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    assert writer(tmp_path / "keys", memory, 0.2).wait(60) == -signal.SIGALRM
    waiting = writer(tmp_path / "keys", memory, 60.0)
    assert list(tmp_path.iterdir()) == []
    fcntl.flock(directory, fcntl.LOCK_UN)
    os.close(directory)
    assert waiting.wait(60) == 0
    assert (tmp_path / "keys").read_bytes() == b"keys"
