"""A process known by its pidfd, whoever its parent is: its end is an event, and a signal never hits a successor."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

OnEnd = Callable[[int | None], None]
"""What is told when a process has ended: its exit code, or minus the signal; None: only its parent knows."""


class Process:
    """A living process, until `on_end` is called. Owned by whoever started it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pid: int, pidfd: int, on_end: OnEnd) -> None:
        self.pid = pid
        self.ended = asyncio.Event()
        self._loop = loop
        self._pidfd = pidfd
        self._on_end = on_end
        loop.add_reader(pidfd, self._see_end)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless the process has ended."""
        if self.ended.is_set():
            return
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return

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
        OSError: it could not be started.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]  # -P: the working directory is not searched for modules
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=tuple(descriptors),
        env=dict(environ),
        preexec_fn=become,  # noqa: PLW1509 - the supervisor has one thread
    )
    process.returncode = 0  # its end is seen and reaped by pidfd
    return process.pid


def _reap(pidfd: int) -> int | None:
    try:
        info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if info is None:
        return None
    return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
