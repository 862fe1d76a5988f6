"""A rest that somebody may cut short."""

import asyncio
import contextlib


class Bell:
    """Wakes all who rest at it. Owned by one loop."""

    def __init__(self) -> None:
        self._resting: set[asyncio.Event] = set()

    def ring(self) -> None:
        """Wakes those who rest now; who comes later rests until the next ring."""
        for event in self._resting:
            event.set()

    async def rest(self, seconds: float | None, event: asyncio.Event | None = None) -> None:
        """Waits for so long (None: for ever), or until it rings, or until the event is set; a ring sets it, too."""
        event = event or asyncio.Event()
        self._resting.add(event)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await event.wait()
        finally:
            self._resting.discard(event)
