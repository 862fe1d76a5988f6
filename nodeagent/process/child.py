"""A process known by its pidfd, whoever its parent is: its end is an event, and a signal never hits a successor."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from nodeagent import limits
from nodeagent.observe.log import open_log

_log = open_log()
OnEnd = Callable[[int | None], None]
"""What is told when a process has ended: its exit code, or minus the signal; None: only its parent knows."""


START_ERRORS = (OSError, subprocess.SubprocessError)
"""What a start fails with for want of descriptors, processes or memory: that may pass, so it is tried again."""


class Process:
    """A living process, until `on_end` is called. Owned by whoever started it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pid: int, pidfd: int, on_end: OnEnd) -> None:
        self.pid = pid
        self.ended = asyncio.Event()
        self._loop = loop
        self._pidfd = pidfd
        self._on_end = on_end
        loop.add_reader(pidfd, self._see_end)

    def fileno(self) -> int:
        """The pidfd, while it lives."""
        return self._pidfd

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless the process has ended."""
        if self.ended.is_set():
            return
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return

    async def end(self, program: str) -> None:
        """SIGTERM, then SIGKILL. Who is held in the kernel, by a disk that hangs, say, is not waited for: that may last for ever."""
        for number, patience_s in ((signal.SIGTERM, limits.CUT_S), (signal.SIGKILL, limits.KILLED_S)):
            self.signal(number)
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self.ended.wait()
                return
        _log.error("process_left", program=program, pid=self.pid, why="SIGKILL does not end it: the kernel holds it",
                   cure=f"see /proc/{self.pid}/stack and the disks; it ends when they answer, or with the host")  # fmt: skip

    def _see_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        code = _reap(self._pidfd)
        os.close(self._pidfd)
        self.ended.set()
        self._on_end(code)


def start_program(
    module: str, arguments: Sequence[str], descriptors: Sequence[int], environ: Mapping[str, str],
    become: Callable[[], None] | None = None,
) -> int:  # fmt: skip
    """The pid of `python -m module`, with these descriptors open; `become` runs in the child before the program.

    Raises:
        OSError, subprocess.SubprocessError: it could not be started (START_ERRORS).
    """
    command = [sys.executable, "-P", "-m", module, *arguments]  # -P: the working directory is not searched for modules
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=tuple(descriptors),
        env=dict(environ),
        preexec_fn=become,  # noqa: PLW1509 - a thread that repairs holds no lock that this takes
    )
    process.returncode = 0  # its end is seen and reaped by pidfd
    return process.pid


@contextmanager
def closing_memory(name: str, content: bytes) -> Iterator[int]:
    """A descriptor of `content` in memory, at its start, for a program that is given it; ours is closed at the end.

    Raises:
        OSError: no descriptor or memory is left.
    """
    with os.fdopen(os.memfd_create(name, os.MFD_CLOEXEC), "wb") as file:
        file.write(content)
        file.seek(0)  # which flushes
        yield file.fileno()


def watch_program(loop: asyncio.AbstractEventLoop, pid: int, on_end: OnEnd) -> Process:
    """The program that was just started.

    Raises:
        OSError: no descriptor is left for it; it was ended.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)  # our child and not reaped yet: the number is still its own
        os.waitpid(pid, 0)
        raise
    return Process(loop, pid, pidfd, on_end)


def reap_strangers(known: Collection[int]) -> int:
    """Lets go of ended children that nobody watches, such as workers of a predecessor who left no word of them; how many.

    Those that are `known` are for whoever watches them, at once.
    """
    count = 0
    try:
        while (info := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and info.si_pid not in known:
            os.waitid(os.P_PID, info.si_pid, os.WEXITED | os.WNOHANG)
            count += 1
    except ChildProcessError:
        return count
    return count


def _reap(pidfd: int) -> int | None:
    try:
        info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if info is None:
        return None
    return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
