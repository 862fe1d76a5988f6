"""The lab's store of descriptors, as a real process that speaks to a real successor."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.lab import fd_store
from nodeagent.lab.fd_store import HELD, NOTIFY, Store, fields_of
from nodeagent.process.notify import Notifier
from tests.support.eventually import eventually

MODULE = [sys.executable, "-P", "-m", "nodeagent.lab.fd_store"]
SHOW = (
    "import os; print(os.environ.get('LISTEN_FDNAMES'), os.environ.get('LISTEN_PID') == str(os.getpid()),"
    " *(os.readlink(f'/proc/self/fd/{3 + n}') for n in range(int(os.environ.get('LISTEN_FDS', '0')))))"
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """The directory of one that runs."""
    with subprocess.Popen([*MODULE, "keep", str(tmp_path)]) as process:
        eventually((tmp_path / HELD).exists, 20, "the store")
        yield tmp_path
        process.kill()


def handed_over(directory: Path) -> list[str]:
    """What a successor sees: names, whether they are its own, and what its descriptors are."""
    done = subprocess.run([*MODULE, "run", str(directory), sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_successor_gets_what_was_stored_and_not_removed(store: Path) -> None:
    """In places from 3 on, with their names, however often one is started."""
    assert handed_over(store) == ["None", "False"]
    notifier = Notifier({"NOTIFY_SOCKET": str(store / NOTIFY)}, os.getpid())
    files = [os.open(path, os.O_RDONLY) for path in ("/dev/null", "/dev/zero", "/dev/full")]
    notifier.store("keys", files[:1])
    notifier.store("listeners-0", files[1:])
    for _ in range(2):
        assert handed_over(store) == ["keys:listeners-0:listeners-0", "True", "/dev/null", "/dev/zero", "/dev/full"]
    notifier.forget("keys")
    assert handed_over(store) == ["listeners-0:listeners-0", "True", "/dev/zero", "/dev/full"]
    notifier.close()
    for fd in files:
        os.close(fd)


def test_what_is_not_for_the_store_is_closed() -> None:
    """A message of another kind."""
    kept = Store()
    fd = os.open(os.devnull, os.O_RDONLY)
    kept.take(fields_of(b"READY=1\nSTATUS=well"), [fd])
    assert kept.held == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_more_than_one_message_holds_is_given_in_several() -> None:
    """The kernel takes 253 in one."""
    kept = Store()
    kept.held = [(f"n{number}", 1) for number in range(fd_store._AT_ONCE + 1)]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        kept.give(ours)
        ours.close()
        sizes = []
        while True:
            names, descriptors, _, _ = socket.recv_fds(theirs, 100_000, 253)
            if not names:
                break
            sizes.append((len(names.split(b":")), len(descriptors)))
            for fd in descriptors:
                os.close(fd)
    assert sizes == [(fd_store._AT_ONCE,) * 2, (1, 1)]
