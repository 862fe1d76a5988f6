"""Open connections by what holds them open, so that a change of policy looks at pairs of services and not at connections."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from nodeagent import limits
from nodeagent.decide.revoke import Held, concerns, held_by, why_revoked
from nodeagent.model.snapshot import Snapshot
from nodeagent.proxy.relay import Relay

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class HeldRelays:
    """Owned by one worker."""

    def __init__(self, grace_s: float, spawn: Spawn) -> None:
        """grace_s: seconds over which connections are cut that one change denies, so that not all of them come back at once."""
        self._grace_s = grace_s
        self._spawn = spawn
        self._snapshot: Snapshot | None = None
        self._relays: dict[Held, set[Relay]] = {}
        self._cutting: set[Held] = set()
        self._passed: Counter[tuple[str, str]] = Counter()
        self._has_passed = False

    def add(self, relay: Relay) -> None:
        """The way of this relay is decided, by the current snapshot. One that has ended meanwhile is held by nothing."""
        if relay.is_over:
            return
        self._relays.setdefault(held_by(relay.row), set()).add(relay)
        pair = (relay.row.source, relay.row.destination)
        self._passed[pair if pair in self._passed or len(self._passed) < limits.METRIC_PAIRS else ("", "")] += 1
        self._has_passed = True

    def discard(self, relay: Relay) -> None:
        """It has ended."""
        held = held_by(relay.row)
        relays = self._relays.get(held)
        if relays:
            relays.discard(relay)
            if not relays:
                del self._relays[held]

    def passed(self) -> list[tuple[str, str, int]]:
        """Source, destination, and how many were added so far; nothing when none was since the last call."""
        if not self._has_passed:
            return []
        self._has_passed = False
        return [(source, destination, count) for (source, destination), count in self._passed.items()]

    def follow(self, snapshot: Snapshot) -> None:
        """Cuts what this snapshot denies, the first of each kind at once; leaves alone all that it allows."""
        old, self._snapshot = self._snapshot, snapshot
        for held in list(self._relays):
            is_touched = old is None or concerns(held, old, snapshot)
            if is_touched and held not in self._cutting and why_revoked(snapshot, held):
                self._cutting.add(held)
                self._spawn(self._cut(held))

    async def _cut(self, held: Held) -> None:
        """One kind, evenly over the grace; stops when a newer snapshot allows it again."""
        try:
            while relays := tuple(self._relays.get(held, ())):
                slices = min(len(relays), math.ceil(self._grace_s / limits.CUT_TICK_S) or 1)
                share = math.ceil(len(relays) / slices)
                for start in range(0, len(relays), share):
                    if not self._cut_some(held, relays[start : start + share]):
                        return
                    await asyncio.sleep(self._grace_s / slices)
        finally:
            self._cutting.discard(held)

    def _cut_some(self, held: Held, relays: tuple[Relay, ...]) -> bool:
        """Whether they are denied still."""
        why = why_revoked(self._snapshot, held) if self._snapshot else None
        for relay in relays:
            if why and not relay.is_over:
                relay.revoke(why)
        return why is not None
