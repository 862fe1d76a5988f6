"""The supervisor's side of the sentry: starts it, tells it each beat, starts it again when it ends."""

import asyncio
import math
import signal
import socket
import time
from collections.abc import Mapping

from nodeagent import limits
from nodeagent.observe.log import open_log
from nodeagent.process.child import START_ERRORS, Process, start_program, watch_program
from nodeagent.process.restart import remember_exit, start_at
from nodeagent.process.sentry import BEAT

_log = open_log()


class SentryProcess:
    """A sentry that is started again whenever it ends; without one the agent runs all the same. Owned by the supervisor.

    It needs no word before a reload: its channel ends with the program, and the next program starts its own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, environ: Mapping[str, str]) -> None:
        self._loop = loop
        self._environ = environ
        self._until = math.inf
        self._exits: tuple[float, ...] = ()
        self._process: Process | None = None
        self._beats: socket.socket | None = None
        self._is_wanted = True
        self._restart_timer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """0: it does not run."""
        return self._process.pid if self._process and not self._process.ended.is_set() else 0

    def start(self) -> None:
        """Starts the program, which is told what was told last. One that cannot be started now is tried again as one that ended."""
        if not self._is_wanted or self.pid:
            return
        try:
            self._launch()
        except START_ERRORS as error:
            _log.error("sentry_not_started", error=str(error))
            self._end(None)
        else:
            self._say()

    def beat(self, lives_s: float) -> None:
        """The dead-man switch holds for so long; 0: it is let fall, and what waits in the queues is for others."""
        self._until = time.monotonic() + lives_s if lives_s else math.inf
        self._say()

    def leave(self) -> None:
        """It ends by itself, and is not started again."""
        self._is_wanted = False
        if self._restart_timer:
            self._restart_timer.cancel()
        self._close()

    async def stop(self) -> None:
        """Sees to its end."""
        self.leave()
        if self._process:
            await self._process.end("sentry")

    def _launch(self) -> None:
        """Raises one of START_ERRORS; nothing is left open then."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.SENTRY_QUEUE_BYTES)
                pid = start_program("nodeagent.process.sentry", [str(theirs.fileno())], (theirs.fileno(),), self._environ)
            self._process = watch_program(self._loop, pid, self._end)
        except BaseException:
            ours.close()
            raise
        self._beats = ours

    def _say(self) -> None:
        if self._beats is None:
            return
        try:
            self._beats.send(BEAT.pack(self._until), socket.MSG_DONTWAIT)
        except OSError as error:  # it ended, and the next one will be told; or hears nothing any more
            if isinstance(error, BlockingIOError) and self._process:
                self._process.signal(signal.SIGKILL)

    def _close(self) -> None:
        if self._beats is not None:
            self._beats.close()
            self._beats = None

    def _end(self, code: int | None) -> None:
        self._close()
        if not self._is_wanted:
            return
        now = self._loop.time()
        self._exits = remember_exit(self._exits, now)
        next_at = start_at(self._exits, now)
        _log.error("sentry_exited", code=code, restart_in_s=round(next_at - now, 3))
        self._restart_timer = self._loop.call_at(next_at, self.start)
