"""Processes by pidfd."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.process.child import Process, closing_memory, start_program, watch_program
from tests.support.held import held
from tests.support.loop import run


async def ended(pid: int, after: signal.Signals | None = None) -> int | None:
    """What `on_end` was told."""
    codes: list[int | None] = []
    process = Process(asyncio.get_running_loop(), pid, os.pidfd_open(pid), codes.append)
    if after:
        process.signal(after)
    await process.ended.wait()
    process.signal(signal.SIGKILL)  # no successor with the same number is hit
    assert len(codes) == 1
    return codes[0]


def child(code: int | None) -> int:
    """A child that exits with `code`, or waits for ever."""
    inherited = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # an earlier test may have left a handler
    pid = os.fork()
    if pid == 0:
        if code is None:
            signal.pause()
        os._exit(code or 0)
    signal.signal(signal.SIGTERM, inherited)
    return pid


def family() -> tuple[int, int]:
    """A child that waits for its own child, and that one."""
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        grandchild = child(None)
        os.write(write, str(grandchild).encode())
        os.waitpid(grandchild, 0)
        os._exit(0)
    grandchild = int(os.read(read, 20))
    os.close(read)
    os.close(write)
    return parent, grandchild


def is_child(pid: int) -> bool:
    """Whether there is something left to reap."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


@pytest.mark.parametrize("code", [0, 1, 70])
def test_an_exit_code_is_told(code: int) -> None:
    """And the child is reaped."""

    async def scene() -> None:
        pid = child(code)
        assert await ended(pid) == code
        assert not is_child(pid)

    run(scene)


def test_a_signal_is_told_as_a_negative_number() -> None:
    """As subprocess does."""

    async def scene() -> None:
        assert await ended(child(None), signal.SIGTERM) == -signal.SIGTERM

    run(scene)


def test_who_is_held_by_the_kernel_is_left_and_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs may hold it for ever; its end is seen all the same when that comes."""
    monkeypatch.setattr(limits, "CUT_S", 0.05)
    monkeypatch.setattr(limits, "KILLED_S", 0.05)
    codes: list[int | None] = []

    async def scene() -> None:
        pid = child(None)
        process = Process(asyncio.get_running_loop(), pid, os.pidfd_open(pid), codes.append)
        with held(pid), capture_logs() as log:
            await process.end("control")
            assert [(line["event"], line["program"], line["pid"]) for line in log] == [("process_left", "control", pid)]
            assert not process.ended.is_set()
        await process.ended.wait()

    run(scene)
    assert codes in ([-signal.SIGTERM], [-signal.SIGKILL])


def test_the_end_of_another_processs_child_is_seen_and_its_code_is_not() -> None:
    """Only its parent knows it."""

    async def scene() -> None:
        parent, grandchild = family()
        assert await ended(grandchild, signal.SIGKILL) is None
        assert await ended(parent) == 0

    run(scene)


def test_a_program_gets_its_descriptors_its_environment_and_its_arguments() -> None:
    """And nothing else of ours."""

    async def scene() -> None:
        read, write = os.pipe()
        hidden = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(hidden, True)
        pid = start_program("tests.support.tell", [str(write), str(hidden)], [write], {"MARK": "here", "PYTHONPATH": str(Path.cwd())})
        os.close(write)
        assert await ended(pid) == 0
        assert os.read(read, 100) == b"here closed"
        os.close(read)
        os.close(hidden)

    run(scene)


def test_a_program_that_cannot_be_watched_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of descriptors: nothing runs that nobody knows of."""

    def refuse(_pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    async def scene() -> None:
        pid = child(None)
        monkeypatch.setattr(os, "pidfd_open", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            watch_program(asyncio.get_running_loop(), pid, lambda _code: None)
        assert not is_child(pid)

    run(scene)


def test_a_program_reads_what_was_put_into_memory_from_its_start() -> None:
    """And our descriptor is closed afterwards."""
    with closing_memory("test", b"content") as memory:
        assert os.read(memory, 100) == b"content"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(memory)


def test_children_that_nobody_watches_are_let_go() -> None:
    """Those that somebody does are left to them; in a process of its own, which has no other children."""
    code = (
        "import os, subprocess, time\n"
        "from nodeagent.process.child import reap_strangers\n"
        "assert reap_strangers(()) == 0\n"
        "ended = [subprocess.Popen(['true']) for _ in range(2)]; alive = subprocess.Popen(['sleep', '100'])\n"
        "states = lambda: {open(f'/proc/{p.pid}/stat').read().rpartition(')')[2].split()[0] for p in ended}\n"
        "while states() != {'Z'}: pass\n"
        "assert reap_strangers({p.pid for p in ended}) == 0\n"
        "assert reap_strangers(()) == 2\n"
        "assert not any(os.path.exists(f'/proc/{p.pid}') for p in ended)\n"
        "assert alive.poll() is None; alive.kill(); alive.wait()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[4], timeout=60)
