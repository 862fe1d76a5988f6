"""The supervisor's side of the sentry: starts it, tells it each beat, starts it again when it ends."""

import asyncio
import math
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from nodeagent import limits
from nodeagent.consul_environ import without_token
from nodeagent.observe.log import open_log
from nodeagent.process.child import START_ERRORS, Process, start_program, watch_program
from nodeagent.process.orphans import Kin, end_sentries
from nodeagent.process.restart import remember_exit, start_at
from nodeagent.process.sentry import BEAT, LEAVE, Word

_log = open_log()


class SentryProcess:
    """A sentry that is started again whenever it ends; without one the agent runs all the same. Owned by the supervisor.

    It needs no word before a reload, nor has a crash one: its channel ends with the program, and it goes on alone until the next
    program's own watches.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, environ: Mapping[str, str]) -> None:
        self._loop = loop
        self._environ = without_token(environ)
        self._word = Word(math.inf, is_holding=False)
        self._exits: tuple[float, ...] = ()
        self._why = ""
        """It ended the last time, or could not be started."""
        self._process: Process | None = None
        self._beats: socket.socket | None = None
        self._is_wanted = True
        self._restart_timer: asyncio.TimerHandle | None = None
        self.is_watching = False
        """Whether it has said so."""
        self._has_relieved = False
        self.is_holding = False
        """Whether nobody serves yet, and who comes waits for those who will: said with each beat, which is counted from when that began."""

    @property
    def pid(self) -> int:
        """0: it does not run."""
        return self._process.pid if self._process and not self._process.ended.is_set() else 0

    @property
    def trouble(self) -> str:
        """Why there is none; empty where there is, or where the first is just being started."""
        return "" if self.is_watching or not self._is_wanted else self._why

    def start(self) -> None:
        """Starts the program, which is told what was told last. One that cannot be started now is tried again as one that ended."""
        if not self._is_wanted or self.pid:
            return
        try:
            self._launch()
        except START_ERRORS as error:
            _log.error("sentry_not_started", error=str(error))
            self._start_again(None, f"it cannot be started: {error}")
        else:
            self._say(self._word)

    def beat(self, lives_s: float | None) -> None:
        """For so long the dead-man switch would hold, had it been told when those who serve were last heard.

        None: it is let fall, and what waits in the queues is for others.
        """
        self._word = Word(math.inf, is_holding=False) if lives_s is None else Word(time.monotonic() + lives_s, self.is_holding)
        self._say(self._word)

    def relieve(self, kin: Kin) -> None:
        """Once ours watches it ends those that went on alone, of a supervisor or program of before."""
        if self._has_relieved or not self.is_watching:
            return
        self._has_relieved = True
        if ended := end_sentries(kin, self.pid):
            _log.info("sentries_relieved", pids=ended)

    def leave(self) -> None:
        """It ends by itself, and is not started again."""
        self._say(Word(LEAVE, is_holding=False))
        self.release()

    def release(self) -> None:
        """It goes on alone, as after a crash, and is not started again."""
        self._is_wanted = False
        if self._restart_timer:
            self._restart_timer.cancel()
        self._close()

    async def stop(self) -> None:
        """Sees to its end."""
        self.leave()
        if self._process:
            await self._process.end("sentry")

    def dismiss(self, kin: Kin) -> None:
        """The agent ends, and nobody is left who would wait for it: so do those that went on alone, as after a reload of just before."""
        if ended := end_sentries(kin, self.pid):
            _log.info("sentries_dismissed", pids=ended)

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
        self._loop.add_reader(ours, self._hear)

    def _hear(self) -> None:
        """It has one thing to say; its end is seen by its pidfd."""
        assert self._beats is not None
        self._loop.remove_reader(self._beats)
        with suppress(OSError):
            self.is_watching = bool(self._beats.recv(1, socket.MSG_DONTWAIT))

    def _say(self, word: Word) -> None:
        if self._beats is None:
            return
        try:
            self._beats.send(BEAT.pack(*word), socket.MSG_DONTWAIT)
        except OSError as error:  # it ended, and the next one will be told; or hears nothing any more
            if isinstance(error, BlockingIOError) and self._process:
                self._process.signal(signal.SIGKILL)

    def _close(self) -> None:
        self.is_watching = False
        if self._beats is not None:
            self._loop.remove_reader(self._beats)
            self._beats.close()
            self._beats = None

    def _end(self, code: int | None) -> None:
        self._start_again(code, f"it ended with {code}")

    def _start_again(self, code: int | None, why: str) -> None:
        self._close()
        if not self._is_wanted:
            return
        self._why = why
        now = self._loop.time()
        self._exits = remember_exit(self._exits, now)
        next_at = start_at(self._exits, now)
        _log.error("sentry_exited", code=code, restart_in_s=round(next_at - now, 3))
        self._restart_timer = self._loop.call_at(next_at, self.start)
