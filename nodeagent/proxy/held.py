"""Open connections by what holds them open, so that a change of policy looks at pairs of services and not at connections."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from nodeagent import limits
from nodeagent.decide.recheck import Held, ends_elsewhere, held_by, may_differ, why_cut
from nodeagent.model.snapshot import Snapshot
from nodeagent.proxy.relay import Relay

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class HeldRelays:
    """Owned by one worker."""

    def __init__(self, host: str, grace_s: float, spawn: Spawn, report: Callable[[Exception], None]) -> None:
        """grace_s: seconds over which connections are cut that one change denies, so that not all of them come back at once."""
        self._host = host
        self._grace_s = grace_s
        self._spawn = spawn
        self._report = report
        self._snapshot: Snapshot | None = None
        self._kinds: dict[Relay, Held] = {}
        self._relays: dict[Held, set[Relay]] = {}
        self._cutting: set[Held] = set()
        self._passed: Counter[tuple[str, str]] = Counter()
        self._has_passed = False

    def add(self, relay: Relay) -> None:
        """The way of this relay is decided, by the current snapshot. One that has ended meanwhile is held by nothing."""
        if relay.is_over:
            return
        held = self._kinds[relay] = held_by(relay.row, self._host)
        self._relays.setdefault(held, set()).add(relay)
        pair = (held.source, held.destination)
        self._passed[pair if pair in self._passed or len(self._passed) < limits.METRIC_PAIRS else ("", "")] += 1
        self._has_passed = True

    def discard(self, relay: Relay) -> None:
        """It has ended."""
        held = self._kinds.pop(relay, None)
        if held is None:
            return
        self._relays[held].discard(relay)
        if not self._relays[held]:
            del self._relays[held]

    def passed(self) -> list[tuple[str, str, int]]:
        """Source, destination, and how many were added so far; nothing when none was since the last call."""
        if not self._has_passed:
            return []
        self._has_passed = False
        return [(source, destination, count) for (source, destination), count in self._passed.items()]

    def follow(self, snapshot: Snapshot) -> None:
        """Cuts what this snapshot denies, the first at once; leaves alone all that it allows.

        Of a tunnel only one end cuts, the one that enforces, or two schedules would make one that is not even.
        """
        old, self._snapshot = self._snapshot, snapshot
        touched = (held for held in self._relays if old is None or may_differ(held, old, snapshot))
        denied = {held for held in touched if held not in self._cutting and why_cut(snapshot, held)}
        self._cutting |= denied
        if left := {held for held in denied if ends_elsewhere(held)}:
            self._spawn(self._cut(left, after_s=self._grace_s + limits.BACKSTOP_S, over_s=limits.BACKSTOP_S))
        if ours := denied - left:
            self._spawn(self._cut(ours, after_s=0, over_s=self._grace_s))

    async def _cut(self, kinds: set[Held], *, after_s: float, over_s: float) -> None:
        """What one change denies and is open `after_s` seconds later, evenly; leaves out what a newer snapshot allows again."""
        try:
            if after_s:
                await asyncio.sleep(after_s)
            while relays := [relay for held in kinds for relay in self._relays.get(held, ())]:
                slices = min(len(relays), math.ceil(over_s / limits.CUT_TICK_S) or 1)
                share = math.ceil(len(relays) / slices)
                for start in range(0, len(relays), share):
                    self._cut_some(kinds, relays[start : start + share])
                    await asyncio.sleep(over_s / slices)
        finally:
            self._cutting -= kinds

    def _cut_some(self, kinds: set[Held], relays: list[Relay]) -> None:
        """What is not denied any more leaves `kinds`: a later deny begins anew."""
        for relay in relays:
            held = self._kinds.get(relay)
            if held not in kinds or self._snapshot is None:
                continue
            why = why_cut(self._snapshot, held)
            if why is None:
                kinds.discard(held)
                self._cutting.discard(held)
                continue
            try:
                relay.end_by(why)
            except Exception as error:  # noqa: BLE001 - one that does not end must not keep the others open
                self._report(error)
                self.discard(relay)
