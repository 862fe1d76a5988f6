"""A rest that somebody may cut short."""

import asyncio
import contextlib


class Bell:
    """Wakes all who rest at it. Owned by one loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wakes those who rest now; who comes later rests until the next ring."""
        self._event.set()
        self._event = asyncio.Event()

    async def rest(self, seconds: float) -> None:
        """Waits for so long, or until it rings."""
        event = self._event
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
