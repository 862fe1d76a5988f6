"""The sentry: where nobody beats and nobody accepts, it resets who waits, before the kernel's dead-man switch falls and after.

A process of its own, as small as can be: it is for the hang of all others, and shares neither loop, lock nor library with them.

Usage: python -m nodeagent.process.sentry BEATS_FD
"""

import json
import math
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from nodeagent import limits
from nodeagent.process import privileges
from nodeagent.process.unaccepted import Unaccepted, can_end, end, find_unaccepted, open_diag
from redirect.errors import RedirectError
from redirect.sockets import read_rows

BEAT = struct.Struct("=d")
"""What it is told: until when the switch holds, of the monotonic clock. Infinity: nobody beats any more, and that is meant."""
_STDERR = 2


def main(arguments: list[str]) -> None:
    """Watches until the supervisor's end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ctrl-C is the supervisor's business
    privileges.name_process("nodeagent-sentry")
    privileges.keep_only(privileges.SENTRY)
    with socket.socket(fileno=int(arguments[0])) as beats, open_diag() as diag:
        if not can_end(diag):
            say("warning", "sentry_unable", why="the kernel was built without CONFIG_INET_DIAG_DESTROY",
                effect="should all of the agent hang at once, who called just before waits for the service manager's watchdog")  # fmt: skip
            while beats.recv(BEAT.size):
                pass
            return
        Sentry(beats, lambda each: end(diag, each)).serve()


class Sentry:
    """Owned by the sentry program."""

    def __init__(
        self, beats: socket.socket, end_one: Callable[[Unaccepted], bool], look: Callable[[], Iterable[bytes]] = read_rows
    ) -> None:
        self._beats = beats
        self._end = end_one
        self._read = look
        self._look_at = math.inf
        self._seen: dict[Unaccepted, float] = {}
        """Who waits, and since when that is known."""
        self._number = 0
        """Of those that were ended and not told yet."""
        self._failure = ""

    def serve(self) -> None:
        """Until the supervisor is gone."""
        poller = select.poll()
        poller.register(self._beats, select.POLLIN)
        while True:
            rest_s = self._look_at - time.monotonic()
            if poller.poll(None if math.isinf(rest_s) else max(0, math.ceil(rest_s * 1000))):
                if not self._hear():
                    return
            else:
                self._look()

    def _hear(self) -> bool:
        """Whether there is a supervisor still. Its last word counts."""
        is_there = True
        try:
            while data := self._beats.recv(BEAT.size, socket.MSG_DONTWAIT):
                self._look_at = BEAT.unpack(data)[0] - limits.SENTRY_AHEAD_S - limits.SENTRY_PATIENCE_S
            is_there = False
        except BlockingIOError:
            pass
        self._seen, self._failure = {}, ""
        self._tell()
        return is_there

    def _look(self) -> None:
        """Ends those that are known to wait for SENTRY_PATIENCE_S."""
        now = time.monotonic()
        if now - self._look_at > limits.SENTRY_PATIENCE_S / 2:
            self._seen = {}  # the machine stood still, and workers had no turn, either
        self._look_at = now + limits.SENTRY_LOOK_S
        before = self._number
        try:
            self._seen = {each: self._seen.get(each, now) for each in find_unaccepted(self._read())}
            for each, since in self._seen.items():
                if now - since >= limits.SENTRY_PATIENCE_S:
                    self._number += self._end(each)
        except (OSError, RedirectError) as error:
            self._fail(str(error))
        if self._number == before:
            self._tell()

    def _tell(self) -> None:
        if self._number:
            say("error", "unaccepted_ended", number=self._number, why="the agent did not beat, and nobody accepted them")
        self._number = 0

    def _fail(self, why: str) -> None:
        if why != self._failure:
            say("error", "sentry_failed", error=why, effect="who is not accepted waits for the service manager's watchdog")
        self._failure = why


def say(level: str, event: str, **facts: object) -> None:
    """A line as the others' logs have, unless it would have to wait: for that this process has no time."""
    at = datetime.now(tz=UTC).isoformat().replace("+00:00", "Z")
    line = {"at": at, "level": level, "process": "sentry", "event": event, **facts}
    poller = select.poll()
    poller.register(_STDERR, select.POLLOUT)
    try:
        if poller.poll(0):
            os.write(_STDERR, json.dumps(line, separators=(",", ":")).encode() + b"\n")
    except OSError:  # a full disk, or nobody at the other end
        return


if __name__ == "__main__":
    main(sys.argv[1:])
