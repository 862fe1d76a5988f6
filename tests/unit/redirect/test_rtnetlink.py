"""One use of pyroute2: where it works, and what comes out of it."""

import asyncio
import errno
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from redirect.rtnetlink import use_iproute


def test_the_kernel_lists_its_policy_rules() -> None:
    """Three of its own at least, to anybody."""
    assert use_iproute(lambda iproute: len(list(iproute.rule("dump", family=socket.AF_INET)))) >= 3


def test_it_works_inside_a_running_loop() -> None:
    """Where the supervisor verifies, and where pyroute2 alone would not."""

    async def ask() -> int:
        return use_iproute(lambda iproute: len(list(iproute.rule("dump", family=socket.AF_INET))))

    assert asyncio.run(ask()) >= 3


def test_a_refusal_is_an_error_with_its_number() -> None:
    """Nobody has such a rule."""
    with pytest.raises(OSError, match=r".") as caught:
        use_iproute(lambda iproute: iproute.rule("del", family=socket.AF_INET, priority=31_999, table=3_999_999_999))
    assert caught.value.errno in (errno.ENOENT, errno.EPERM)


def test_what_the_use_raises_arrives_as_it_is() -> None:
    """Nothing is lost on the way between the threads."""
    with pytest.raises(ZeroDivisionError):
        use_iproute(lambda _: 1 // 0)


def test_nothing_is_left_behind() -> None:
    """No thread, no descriptor: it happens every five seconds for years."""
    use_iproute(lambda _: None)
    before = (threading.active_count(), len([*Path("/proc/self/fd").iterdir()]))
    for _ in range(20):
        use_iproute(lambda iproute: list(iproute.rule("dump", family=socket.AF_INET6)))
    assert (threading.active_count(), len([*Path("/proc/self/fd").iterdir()])) == before


def test_a_thread_that_cannot_be_started_is_an_error_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit on processes is met by any host some day; the supervisor must not end by it."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="TasksMax"):
        use_iproute(lambda _: None)


def test_whoever_does_not_use_it_does_not_load_it() -> None:
    """It takes longer than all of the command line."""
    code = "import sys, redirect.kernel; sys.exit('pyroute2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
