"""Tries to put what was heard into force, one after another: who waits for his news waits for one that has seen them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from nodeagent.control.bell import Bell


class Rounds:
    """Owned by control."""

    def __init__(self, changed: asyncio.Event) -> None:
        """changed: set when there is news that no round has seen; each clears it, and looks at what is known only then."""
        self._changed = changed
        self._begun = 0
        self._done = 0
        self._bell = Bell()

    @contextmanager
    def one(self) -> Iterator[None]:
        """The time of a try, however it ends; one at a time."""
        self._changed.clear()
        self._begun += 1
        try:
            yield
        finally:
            self._done = self._begun
            self._bell.ring()

    async def settle(self) -> None:
        """Returns when what is known now was tried to put into force.

        A round under way has seen what is no longer new, and may have it in force only at its end; what is new since waits for the next.
        """
        last = self._begun + self._changed.is_set()
        while self._done < last:
            await self._bell.rest(None)
