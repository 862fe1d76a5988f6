"""Ports at which a worker knows nobody, and services that it does not know here: control is asked once for all calls that wait, and for none for long."""

import asyncio
from collections.abc import Callable

from nodeagent import limits
from nodeagent.wire.frames import WantHost

_Asked = tuple[str, int | str]
"""A host by name, and a port of it or a service there."""


class FirstUse:
    """Owned by the worker's loop."""

    def __init__(self) -> None:
        self.send: Callable[[WantHost], bool] = lambda _: False
        """Asks control; whether it can be asked."""
        self._waiting: dict[_Asked, tuple[asyncio.Future[None], asyncio.TimerHandle]] = {}
        self._again_at: dict[_Asked, float] = {}
        """When each may be asked again; the one that was answered longest ago first."""
        self._rests_until = 0.0

    async def ask(self, host: str, wanted: int | str) -> None:
        """Returns when what the catalog says of that is in force here, or when that is not to be had within FIRST_USE_LOST_S."""
        asked = host, wanted
        if asked not in self._waiting and not self._begin(asked):
            return
        await asyncio.wait((self._waiting[asked][0],))  # for who leaves must not end it for the others

    def note(self, host: str, wanted: int | str) -> None:
        """That one waits no longer."""
        waiter, timer = self._waiting.pop((host, wanted), (None, None))
        if waiter is None or timer is None:
            return
        timer.cancel()
        waiter.set_result(None)
        self._again_at.pop((host, wanted), None)
        now = asyncio.get_running_loop().time()
        is_late = now >= timer.when() - limits.FIRST_USE_LOST_S + limits.FIRST_USE_S  # so there were no news: of this one alone
        self._again_at[host, wanted] = now + (limits.FIRST_USE_REST_S if is_late else limits.FIRST_USE_AGAIN_S)
        if len(self._again_at) > limits.FIRST_USE_KEPT:
            del self._again_at[next(iter(self._again_at))]

    def give_up(self) -> None:
        """Nobody answers any more: those that wait go on by what is known."""
        for asked in list(self._waiting):
            self.note(*asked)

    def _miss(self, asked: _Asked) -> None:
        """Not a word: control hangs, and not every caller is to wait for that."""
        self._rests_until = asyncio.get_running_loop().time() + limits.FIRST_USE_REST_S
        self.note(*asked)

    def _begin(self, asked: _Asked) -> bool:
        """Asks, unless it was asked just now, nobody answers or too many wait."""
        loop = asyncio.get_running_loop()
        is_vain = loop.time() < max(self._rests_until, self._again_at.get(asked, 0.0))
        if is_vain or len(self._waiting) >= limits.FIRST_USE_WAITING or not self.send(WantHost(*asked)):
            return False
        self._waiting[asked] = loop.create_future(), loop.call_later(limits.FIRST_USE_LOST_S, self._miss, asked)
        return True
