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
        self._answered_at: dict[_Asked, float] = {}
        """The one that was answered longest ago first."""
        self._rests_until = 0.0

    async def ask(self, host: str, wanted: int | str) -> None:
        """Returns when what the catalog says of that is in force here, or when that is not to be had within FIRST_USE_S."""
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
        self._answered_at.pop((host, wanted), None)
        self._answered_at[host, wanted] = asyncio.get_running_loop().time()
        if len(self._answered_at) > limits.FIRST_USE_KEPT:
            del self._answered_at[next(iter(self._answered_at))]

    def give_up(self) -> None:
        """Nobody answers any more: those that wait go on by what is known."""
        for asked in list(self._waiting):
            self.note(*asked)

    def _miss(self, asked: _Asked) -> None:
        """No answer in time: control or catalog hangs, and not every caller is to wait for that."""
        self._rests_until = asyncio.get_running_loop().time() + limits.FIRST_USE_REST_S
        self.note(*asked)

    def _begin(self, asked: _Asked) -> bool:
        """Asks, unless it was asked just now, nobody answers or too many wait."""
        loop = asyncio.get_running_loop()
        at = self._answered_at.get(asked)
        is_vain = loop.time() < self._rests_until or (at is not None and loop.time() - at < limits.FIRST_USE_AGAIN_S)
        if is_vain or len(self._waiting) >= limits.FIRST_USE_WAITING or not self.send(WantHost(*asked)):
            return False
        self._waiting[asked] = loop.create_future(), loop.call_later(limits.FIRST_USE_S, self._miss, asked)
        return True
