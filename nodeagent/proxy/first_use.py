"""Ports at which a worker knows nobody, and services that it does not know here: control is asked once for all calls that wait, and for none for long."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from nodeagent import limits
from nodeagent.wire.frames import WantHost

_Asked = tuple[str, int | str]
"""A host by name, and a port of it or a service there."""


@dataclass(slots=True)
class _Question:
    """What calls wait for."""

    since: float
    answer: asyncio.Future[None]
    timer: asyncio.TimerHandle
    calls: int = 0


class FirstUse:
    """Owned by the worker's loop."""

    def __init__(self) -> None:
        self.send: Callable[[WantHost], bool] = lambda _: False
        """Asks control; whether it can be asked."""
        self._waiting: dict[_Asked, _Question] = {}
        self._again_at: dict[_Asked, float] = {}
        """When each may be asked again; the one that was answered longest ago first."""
        self._rests_until = 0.0

    async def ask(self, host: str, wanted: int | str) -> None:
        """Returns when what the catalog says of that is in force here, or when that is not to be had within FIRST_USE_LOST_S."""
        asked = host, wanted
        question = self._waiting.get(asked) or self._begin(asked)
        if question is None or question.calls >= limits.FIRST_USE_CALLS:
            return
        question.calls += 1
        try:
            await asyncio.wait((question.answer,))  # for who leaves must not end it for the others
        finally:
            question.calls -= 1

    def note(self, host: str, wanted: int | str) -> None:
        """That one waits no longer."""
        question = self._waiting.pop((host, wanted), None)
        if question is None:
            return
        question.timer.cancel()
        question.answer.set_result(None)
        self._again_at.pop((host, wanted), None)
        now = asyncio.get_running_loop().time()
        is_late = now - question.since >= limits.FIRST_USE_S  # there were no news in time: of this one alone
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

    def _begin(self, asked: _Asked) -> _Question | None:
        """Asks, unless it was asked just now, nobody answers or too many wait."""
        loop = asyncio.get_running_loop()
        is_vain = loop.time() < max(self._rests_until, self._again_at.get(asked, 0.0))
        if is_vain or not self._has_room(asked[0]) or not self.send(WantHost(*asked)):
            return None
        timer = loop.call_later(limits.FIRST_USE_LOST_S, self._miss, asked)
        self._waiting[asked] = question = _Question(loop.time(), loop.create_future(), timer)
        return question

    def _has_room(self, host: str) -> bool:
        """Whether one more may be asked for, of that host."""
        is_full = len(self._waiting) >= limits.FIRST_USE_WAITING
        return not is_full and sum(host == each for each, _ in self._waiting) < limits.FIRST_USE_OF_HOST
