"""What systemd hears."""

import os
import socket
from pathlib import Path

import pytest

from nodeagent.process.notify import Notifier, is_watched, notify_address, without_systemd


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
        notifier.alive()
        notifier.stopping("draining")
        notifier.close()
        assert ear.recv(4096).decode() == f"READY=1\nSTATUS=2 workers\nMAINPID={os.getpid()}"
        assert ear.recv(4096) == b"WATCHDOG=1"
        assert ear.recv(4096) == b"STOPPING=1\nSTATUS=draining"


def test_nobody_listening_is_no_failure(tmp_path: Path) -> None:
    """With and without an address."""
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1"}):
        notifier = Notifier(environ, 1)
        notifier.ready("x")
        notifier.alive()
        notifier.close()
