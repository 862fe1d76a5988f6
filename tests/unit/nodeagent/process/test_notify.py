"""What systemd hears."""

import errno
import os
import socket
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.process.notify import Notifier, is_main, is_watched, notify_address, take_stored, without_systemd


@pytest.mark.parametrize(
    ("value", "address"),
    [("/run/systemd/notify", "/run/systemd/notify"), ("@abstract", "\0abstract"), ("", ""), ("relative", "")],
)
def test_the_address_is_a_path_or_abstract(value: str, address: str) -> None:
    """As sd_notify(3) says."""
    assert notify_address({"NOTIFY_SOCKET": value}) == address


@pytest.mark.parametrize(
    ("environ", "watched"),
    [
        ({}, False),
        ({"WATCHDOG_USEC": "30000000"}, True),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, True),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
    ],
)
def test_the_watchdog_is_fed_by_the_process_that_is_watched(environ: dict[str, str], *, watched: bool) -> None:
    """And by no other."""
    assert is_watched(environ, 7) is watched


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"NOTIFY_SOCKET": "/x", "SYSTEMD_EXEC_PID": "7"}, True),
        ({"NOTIFY_SOCKET": "/x", "SYSTEMD_EXEC_PID": "8"}, False),
        ({"NOTIFY_SOCKET": "/x"}, False),
        ({"SYSTEMD_EXEC_PID": "7"}, False),
    ],
)
def test_who_ends_is_started_again_where_it_is_a_units_process(environ: dict[str, str], *, expected: bool) -> None:
    """And not where it was started from such a process, with its environment."""
    assert is_main(environ, 7) is expected


def test_children_do_not_inherit_systemds_ear() -> None:
    """They could say READY in our name."""
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LISTEN_FDS": "1", "PATH": "/bin"}
    assert without_systemd(environ) == {"PATH": "/bin"}


def test_each_word_arrives(tmp_path: Path) -> None:
    """In the form of sd_notify(3)."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1"}, os.getpid())
        notifier.ready("2 workers")
        for _ in range(2):
            notifier.alive()
            notifier.alive()
            notifier.away(30.0)
        notifier.stopping("draining")
        notifier.close()
        assert ear.recv(4096).decode() == f"READY=1\nSTATUS=2 workers\nMAINPID={os.getpid()}"
        for _ in range(2):  # the unit's own patience holds again from the first sign of life, of whichever program
            assert ear.recv(4096) == b"WATCHDOG_USEC=1\nWATCHDOG=1"
            assert ear.recv(4096) == b"WATCHDOG=1"
            assert ear.recv(4096) == b"WATCHDOG_USEC=30000000\nWATCHDOG=1"
        assert ear.recv(4096) == b"STOPPING=1\nSTATUS=draining"


def test_nobody_listening_is_no_failure(tmp_path: Path) -> None:
    """With and without an address."""
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1"}):
        notifier = Notifier(environ, 1)
        notifier.ready("x")
        notifier.alive()
        notifier.away(1.0)
        notifier.close()


def test_a_slow_manager_hears_the_newest_of_each_name_and_nothing_is_lost(tmp_path: Path) -> None:
    """What does not fit goes with a later beat; copies are sent, ours stay ours, and no more are kept than there are names."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear, Path(os.devnull).open() as file:
        ear.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path}, os.getpid())
        for number in range(2000):  # fills the queue of the socket
            notifier.store(f"n{number}", [file.fileno()])
        notifier.ready("2 workers")
        assert notifier.has_unsent
        before = len([*Path("/proc/self/fd").iterdir()])
        for _ in range(100):
            notifier.forget("keys")
            notifier.store("keys", [file.fileno(), file.fileno()])
            notifier.forget("n1999")
        assert len([*Path("/proc/self/fd").iterdir()]) == before + 2 - 1
        heard = []
        ear.settimeout(10)
        while notifier.has_unsent or len(heard) < 2003:
            notifier.alive()
            text, descriptors, _, _ = socket.recv_fds(ear, 4096, 4)
            heard.append((text.decode(), len(descriptors)))
            for fd in descriptors:
                os.close(fd)
        notifier.close()
    ready = (f"READY=1\nSTATUS=2 workers\nMAINPID={os.getpid()}", 0)
    assert 0 < heard.index(ready) < 1999, "what it waits for comes as soon as there is room"
    heard.remove(ready)
    assert heard[:1999] == [(f"FDSTORE=1\nFDNAME=n{number}\nFDPOLL=0", 1) for number in range(1999)]
    assert heard[1999:] == [
        ("FDSTOREREMOVE=1\nFDNAME=n1999", 0), ("FDSTOREREMOVE=1\nFDNAME=keys", 0), ("FDSTORE=1\nFDNAME=keys\nFDPOLL=0", 2),
    ]  # fmt: skip


def test_that_it_goes_away_is_said_or_known_not_to_be(tmp_path: Path) -> None:
    """A full queue: the unit's own patience holds on, until there is room."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1"}, os.getpid())
        while notifier._tell("x"):
            pass
        assert not notifier.away(30.0)
        while ear.recv(4096) == b"x" and not notifier.away(30.0):
            pass
        notifier.close()
        ear.setblocking(False)
        *_, last = iter(lambda: _try_recv(ear), b"")
        assert last == b"WATCHDOG_USEC=30000000\nWATCHDOG=1"


def _try_recv(ear: socket.socket) -> bytes:
    """The next word; nothing: none waits."""
    try:
        return ear.recv(4096)
    except BlockingIOError:
        return b""


def test_what_the_manager_kept_is_for_this_process_alone_and_told_once() -> None:
    """Names may be missing; more than it was asked to keep is no answer of it."""
    told = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "keys"}
    environ = dict(told)
    assert take_stored(environ, 7) == [("keys", 3), ("", 4)]
    assert environ == {}
    for changed, pid in (({}, 8), ({"LISTEN_FDS": "x"}, 7), ({"LISTEN_FDS": "0"}, 7)):
        assert take_stored({**told, **changed}, pid) == []
    assert take_stored({}, 7) == []


def test_more_than_it_was_asked_to_keep_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listening socket that nobody accepts from would be a trap."""
    closed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "closerange", lambda low, high: closed.append((low, high)))
    taken = take_stored({"LISTEN_PID": "7", "LISTEN_FDS": str(limits.STORED + 2), "LISTEN_FDNAMES": "a"}, 7)
    assert (len(taken), closed) == (limits.STORED, [(3 + limits.STORED, 5 + limits.STORED)])


@pytest.mark.parametrize("error", [errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM])
def test_what_the_kernel_has_no_room_for_is_stored_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """Else a crash would cost the keys: the manager was told to drop those of before."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear, Path(os.devnull).open() as file:
        ear.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path}, os.getpid())
        with monkeypatch.context() as patch:
            patch.setattr(notifier, "_socket", Crowded(error))
            notifier.store("keys", [file.fileno()], is_instead=True)
            assert notifier.has_unsent
        notifier.flush()
        assert not notifier.has_unsent
        assert [ear.recv(4096).split(b"\n")[0] for _ in range(2)] == [b"FDSTOREREMOVE=1", b"FDSTORE=1"]
        notifier.close()


class Crowded:
    """A socket by which no descriptor goes now."""

    def __init__(self, error: int) -> None:
        self.error = error

    def sendmsg(self, *_: object) -> int:
        """Never."""
        raise OSError(self.error, os.strerror(self.error))


def test_without_descriptors_for_copies_the_manager_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old keys are better than none."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ear:
        ear.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path}, os.getpid())

        def dup(_fd: int) -> int:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(os, "dup", dup)
        assert not notifier.store("keys", [0], is_instead=True)
        assert not notifier.has_unsent
        with pytest.raises(BlockingIOError):
            ear.recv(4096)
        notifier.close()


def test_a_state_in_words_is_one_line_that_the_manager_takes(tmp_path: Path) -> None:
    """Of a refused reload anything may be quoted: it gives no order, and is not too long to be heard. It ends with the next state."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path}, os.getpid())
        notifier.says("refused: bad\nMAINPID=1\nit is \udcff")
        assert ear.recv(8192) == b"STATUS=refused: bad MAINPID=1 it is ?"
        notifier.says("no such \x1b]0;key\x07 \x9bm")
        assert ear.recv(8192) == b"STATUS=no such ?]0;key? ?m"
        notifier.says("\u00e4" * 5000)
        assert ear.recv(8192).decode() == f"STATUS={'ä' * 512}"
        notifier.stopping("draining")
        notifier.says("refused")
        notifier.close()
        assert ear.recv(8192) == b"STOPPING=1\nSTATUS=draining"
        ear.setblocking(False)
        with pytest.raises(BlockingIOError):
            ear.recv(8192)


def test_a_state_in_words_takes_the_place_of_no_other(tmp_path: Path) -> None:
    """A manager that is slow hears READY first; what was said before a newer state is not said any more."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ear:
        ear.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path}, os.getpid())
        fill(notifier)
        notifier.ready("2 workers")
        notifier.says("refused")
        assert notifier.has_unsent
        drain(ear)
        notifier.flush()
        assert ear.recv(8192).startswith(b"READY=1\n")
        assert ear.recv(8192) == b"STATUS=refused"
        fill(notifier)
        notifier.says("refused again")
        notifier.ready("3 workers")
        drain(ear)
        notifier.flush()
        assert ear.recv(8192).startswith(b"READY=1\nSTATUS=3 workers")
        assert not notifier.has_unsent
        notifier.close()


def fill(notifier: Notifier) -> None:
    """Its manager's queue."""
    while notifier._tell("x"):
        pass


def drain(ear: socket.socket) -> None:
    """The manager hears all that waits."""
    while _try_recv(ear):
        pass
