"""Places that nobody serves: where others do, their sockets leave the listening group in time, so that nobody waits there in silence."""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence

from nodeagent import limits
from nodeagent.observe.log import open_log
from nodeagent.process.slot import Slot
from nodeagent.process.worker_process import State

_log = open_log()


class Vacancies:
    """Since when nobody serves which slot, and what becomes of its sockets. Owned by the fleet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, look_again: Callable[[], None], forget: Callable[[str], None], has_sentry_held: Callable[[], bool]) -> None:
        """`look_again`: to call `leave` once more. `forget`: the service manager is to keep nothing under that name any more.

        `has_sentry_held`: a sentry knew that nobody served yet, and has let nobody wait for long until somebody did.
        """
        self._loop = loop
        self._look_again = look_again
        self._forget = forget
        self._has_sentry_held = has_sentry_held
        self._served_at = math.inf
        """Since when somebody serves, whichever slot."""
        self._others_until = -math.inf
        """The others follow by then, where callers were held until the first served."""
        self._timer: asyncio.TimerHandle | None = None

    def note_end(self, slot: Slot, heard_at: float) -> None:
        """One of those who stood there has gone, and was heard last then: whoever waits there has done so since, at most."""
        if not slot.is_served:
            slot.unserved_at = min(slot.unserved_at, heard_at)

    def leave(self, slots: Sequence[Slot]) -> None:
        """Those that are overdue leave the group; the others when they will be."""
        now = self._loop.time()
        self._note_served(slots, now)
        waiting = [slot for slot in slots if slot.sets and not slot.is_served] if self._served_at < math.inf else []
        for slot in waiting:
            if self._due_at(slot) <= now:
                self.end(slot)
        self._wake_at(min((self._due_at(slot) for slot in waiting if slot.sets), default=math.inf))

    def end(self, slot: Slot) -> None:
        """It leaves the group. Who was given the sockets and does not accept, or is held by the kernel, has copies: shut down, these are of no use either."""
        if not slot.sets:
            return
        _log.warning("place_left", unserved_s=round(max(0.0, self._loop.time() - slot.unserved_at), 3), why="nobody accepts there, and others serve",
                     effect="who waits there is reset; new connections go to the others")  # fmt: skip
        for worker in (slot.worker, *slot.elders):
            if worker and worker.state == State.OPENING:
                worker.kill()
        for each in slot.sets:
            each.shut()
        self.vacate(slot)

    def vacate(self, slot: Slot) -> None:
        """Closes our copies of its sockets; whoever has others goes on with them."""
        for each in slot.sets:
            self._forget(each.name)
            each.close()
        slot.sets = []

    def number(self, slots: Iterable[Slot]) -> int:
        """How many are unserved for longer than whoever waits may wait: that is no matter of moments."""
        return sum(slot.unserved_at + limits.LEFT_S <= self._loop.time() for slot in slots)

    def _note_served(self, slots: Sequence[Slot], now: float) -> None:
        for slot in slots:
            slot.unserved_at = math.inf if slot.is_served else min(slot.unserved_at, now)
        was_served = self._served_at < math.inf
        self._served_at = min(self._served_at, now) if any(slot.is_served for slot in slots) else math.inf
        if not was_served:
            self._others_until = now + limits.LEFT_HELD_S if self._has_sentry_held() else -math.inf

    def _due_at(self, slot: Slot) -> float:
        """Who has just begun to serve, and who was just given the sockets, gets a moment: others may follow, or it accepts."""
        told_at = slot.worker.told_at if slot.worker else -math.inf
        moment_until = self._others_until if told_at < self._others_until else max(self._served_at, told_at) + limits.LEFT_GRACE_S
        return max(slot.unserved_at + limits.LEFT_S, moment_until)

    def _wake_at(self, at: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._look_again) if at < math.inf else None
