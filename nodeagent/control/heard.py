"""Who waits for the next answer of one service's own."""

import asyncio
from contextlib import suppress

_LOOK_S = 0.1


class Heard:
    """Owned by the follower."""

    def __init__(self) -> None:
        self._awaited: dict[str, asyncio.Event] = {}

    def note(self, service: str) -> None:
        """Its answer is in force."""
        if event := self._awaited.pop(service, None):
            event.set()

    async def rest(self, service: str) -> None:
        """Waits for the next one, or for a moment: where the question is refused nobody tells."""
        event = self._awaited.setdefault(service, asyncio.Event())
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await event.wait()
        finally:  # who gave up, too: whoever waits beside him looks by himself, in a moment
            if self._awaited.get(service) is event:
                del self._awaited[service]
