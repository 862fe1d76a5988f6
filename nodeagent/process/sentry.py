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
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from nodeagent import limits
from nodeagent.process import privileges
from nodeagent.process.unaccepted import Unaccepted, can_end, end, find_unaccepted, is_agent_listening, open_diag
from redirect.errors import RedirectError
from redirect.sockets import read_rows

BEAT = struct.Struct("=d?")
"""What it is told: a Word."""


class Word(NamedTuple):
    """One beat."""

    until: float
    """Until when the switch holds, of the monotonic clock, as counted from when those who serve were last heard.

    Infinity: nobody beats any more, and that is meant.
    """
    is_holding: bool
    """Nobody serves yet, and who comes waits for those who will: it is counted from when that began, and who waits may do so for longer."""


LEAVE = -math.inf
"""The last word of a supervisor that leaves on purpose. Where the channel ends without it, the sentry goes on alone."""
WATCHES = b"w"
"""What it tells, once: that it watches."""
_STDERR = 2


def main(arguments: list[str]) -> None:
    """Watches until the supervisor takes leave; where that ends without a word, until the next has a sentry of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ctrl-C is the supervisor's business
    privileges.name_process("nodeagent-sentry")
    privileges.keep_only(privileges.SENTRY)
    with socket.socket(fileno=int(arguments[0])) as beats, open_diag() as diag:
        is_able = can_end(diag)
        with suppress(OSError):  # nobody is there any more
            beats.send(WATCHES, socket.MSG_DONTWAIT)
        if not is_able:
            say("warning", "sentry_unable", why="the kernel was built without CONFIG_INET_DIAG_DESTROY",
                effect="should all of the agent hang at once, who called just before waits for the service manager's watchdog")  # fmt: skip
            while (word := read_word(beats)) and word.until != LEAVE:
                pass
            return
        Sentry(beats, lambda each: end(diag, each)).serve()


def read_word(beats: socket.socket, flags: int = 0) -> Word | None:
    """The supervisor's next word; None: it is gone.

    Raises:
        BlockingIOError: none is there yet.
    """
    while True:
        try:
            data = beats.recv(BEAT.size, flags)
        except ConnectionResetError:  # it has not read WATCHES; what it said before it went comes after this
            continue
        return Word(*BEAT.unpack(data)) if data else None


class Sentry:
    """Owned by the sentry program."""

    def __init__(
        self, beats: socket.socket, end_one: Callable[[Unaccepted], bool], look: Callable[[], Iterable[bytes]] = read_rows
    ) -> None:
        self._beats = beats
        self._end = end_one
        self._read = look
        self._look_at = math.inf
        self._holds_until = 0.0
        """What it was told last; 0: nothing that would end."""
        self._is_holding = False
        self._ends_at = math.inf
        """When it ends by itself: it is alone then."""
        self._missed_s = 0.0
        """For so long more than usual nobody was heard when it came to be alone: who waits then may wait as long."""
        self._seen: dict[Unaccepted, float] = {}
        """Who waits, and since when that is known."""
        self._number = 0
        """Of those that were ended and not told yet."""
        self._failure = ""

    def serve(self) -> None:
        """Until the supervisor takes leave, or what is to be done alone is done."""
        poller = select.poll()
        poller.register(self._beats, select.POLLIN)
        while time.monotonic() < self._ends_at:
            rest_s = self._look_at - time.monotonic()
            if not poller.poll(None if math.isinf(rest_s) else max(0, math.ceil(rest_s * 1000))):
                self._look()
            elif not self._hear():
                break
            elif self._is_alone:
                poller.unregister(self._beats)
        self._tell()

    @property
    def _is_alone(self) -> bool:
        return self._ends_at < math.inf

    @property
    def _patience_s(self) -> float:
        return limits.SENTRY_ALONE_PATIENCE_S if self._is_alone or self._is_holding else limits.SENTRY_PATIENCE_S

    def _hear(self) -> bool:
        """Whether to go on. The supervisor's last word counts."""
        self._tell()
        try:
            while (word := read_word(self._beats, socket.MSG_DONTWAIT)) is not None:
                if word.until == LEAVE:
                    return False
                self._heed(word)
        except BlockingIOError:
            return True
        more_s = limits.SENTRY_ALONE_PATIENCE_S - self._patience_s
        self._look_at = time.monotonic()
        self._ends_at = self._look_at + limits.SENTRY_ALONE_S
        self._seen = {each: since - more_s for each, since in self._seen.items()}
        if self._holds_until and not self._is_holding:
            missed_s = self._look_at - (self._holds_until - limits.ALIVE_S) - limits.BEAT_S
            # Also where the supervisor alone hung: a worker that lives gets the time in which it accepts.
            self._missed_s = min(max(0.0, missed_s), more_s)
        return True

    def _heed(self, word: Word) -> None:
        now, was_holding, self._is_holding = time.monotonic(), self._is_holding, word.is_holding
        if word.is_holding:
            self._holds_until = now + limits.ALIVE_S
            if was_holding:  # nobody was served since: who waits, waits on
                return
            self._look_at, missed_s = now, now - (word.until - limits.ALIVE_S)
            self._missed_s = min(max(0.0, missed_s), limits.SENTRY_ALONE_PATIENCE_S - limits.SENTRY_PATIENCE_S)
        else:
            self._holds_until = word.until if word.until < math.inf else 0.0
            self._look_at, self._missed_s = word.until - limits.SENTRY_AHEAD_S - limits.SENTRY_PATIENCE_S, 0.0
        self._seen, self._failure = {}, ""

    def _look(self) -> None:
        """Ends those that are known to wait for too long; and itself, when it is alone and nobody can come any more."""
        now = time.monotonic()
        if now - self._look_at > self._patience_s / 2:
            self._seen = {}  # the machine stood still, and workers had no turn, either
        known, self._missed_s = now - self._missed_s, 0.0
        before = self._number
        try:
            rows = tuple(self._read())
            self._seen = {each: min(self._seen.get(each, known), known) for each in find_unaccepted(rows)}
            for each, since in self._seen.items():
                if now - since >= self._patience_s:
                    self._number += self._end(each)
            if self._is_alone and now > self._holds_until and not is_agent_listening(rows):
                self._ends_at = now
        except (OSError, RedirectError) as error:
            self._fail(str(error))
        looked_at = time.monotonic()  # a look may take longer than is waited for
        due = (since + self._patience_s for since in self._seen.values())
        self._look_at = min((at for at in due if at > looked_at), default=math.inf)
        self._look_at = min(self._look_at, looked_at + limits.SENTRY_LOOK_S)
        if self._number == before or self._is_alone:  # the next supervisor may end it at any time
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
