"""Who must say in time that it is well: when each was heard last, and what becomes of those that were not."""

import asyncio
import functools
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from nodeagent import limits
from nodeagent.embedded.checks import note, read_check, read_timed
from nodeagent.embedded.database import Change
from nodeagent.embedded.refusal import StorageFailed
from nodeagent.embedded.store import Store

Key = tuple[str, str]
"""Host and CheckID."""


_NOBODY = ""  # whose turn it is beside the loop: no token's


class Timed(NamedTuple):
    """A check that is well for as long as somebody says so."""

    node: str
    id: str
    ttl_s: float


class Beats:
    """Owned by the event loop of the server. In memory alone: after a restart everybody has its whole time anew."""

    def __init__(self) -> None:
        self._heard: dict[Key, float] = {}
        self._told: dict[Key, float] = {}
        self._looked_at = 0.0

    def hear(self, node: str, check_id: str, now_s: float) -> None:
        """Somebody said how that check is."""
        self._heard[node, check_id] = now_s

    def may_tell(self, node: str, check_id: str, now_s: float) -> bool:
        """Whether words that say nothing new of the status are stored: each time would wake whoever watches the service."""
        last = self._told.get((node, check_id))
        if last is not None and now_s - last < limits.CHECK_OUTPUT_S:
            return False
        self._told[node, check_id] = now_s
        return True

    def due(self, timed: Iterable[Timed], now_s: float) -> list[Timed]:
        """Those of which nothing was heard in their time. timed: all that are not critical yet.

        Time in which this process itself did not run counts for nobody: what was said meanwhile has not been read yet.
        """
        gap_s = now_s - self._looked_at
        lost_s = gap_s if self._looked_at and gap_s > limits.CHECK_STALL_S else 0.0
        self._looked_at = now_s
        rows = list(timed)
        self._heard = {(row.node, row.id): self._heard.get((row.node, row.id), now_s) + lost_s for row in rows}
        self._told = {key: at for key, at in self._told.items() if now_s - at < limits.CHECK_OUTPUT_S}
        return [row for row in rows if now_s - self._heard[row.node, row.id] > row.ttl_s]


async def expire(store: Store, beats: Beats) -> NoReturn:
    """Makes those critical that did not say in time that they are well, until it is cancelled."""
    now = asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(limits.CHECK_EXPIRY_S)
        try:
            rows = await store.read_aside(_NOBODY, read_timed)
            due = beats.due((Timed(*row) for row in rows), now())
            if due:
                await store.write(functools.partial(_expire, due=due))
        except StorageFailed:
            continue  # whoever writes is told; here it is tried again


def _expire(change: Change, due: list[Timed]) -> None:
    for row in due:
        known = read_check(change.connection, row.node, row.id)
        if known is not None and known.row.ttl_s:
            note(change, known, "critical", f"nothing was heard of it for {known.row.ttl_s:g} s, its TTL")
