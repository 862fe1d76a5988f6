"""Who waits until his news was tried to put into force."""

import asyncio

import pytest

from nodeagent.control.rounds import Rounds
from tests.support.loop import run


def test_who_has_no_news_waits_for_the_round_under_way_alone() -> None:
    """It may be what he asks for that it has seen."""

    async def scene() -> None:
        rounds = Rounds(asyncio.Event())
        await rounds.settle()
        with rounds.one():
            waiting = asyncio.create_task(rounds.settle())
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting
        await rounds.settle()

    run(scene)


def test_what_is_new_waits_for_a_round_that_begins_afterwards() -> None:
    """The one under way has looked already."""

    async def scene() -> None:
        changed = asyncio.Event()
        rounds = Rounds(changed)
        with rounds.one():
            changed.set()
            waiting = asyncio.create_task(rounds.settle())
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        with rounds.one():
            assert not changed.is_set()
        await waiting

    run(scene)


def test_a_round_that_fails_is_one() -> None:
    """Nobody is to wait for ever for what cannot be put into force."""

    waiting: list[asyncio.Task[None]] = []

    async def fail(rounds: Rounds) -> None:
        with rounds.one():
            waiting.append(asyncio.create_task(rounds.settle()))
            await asyncio.sleep(0)
            raise ValueError("odd")

    async def scene() -> None:
        rounds = Rounds(asyncio.Event())
        with pytest.raises(ValueError, match="odd"):
            await fail(rounds)
        await waiting[0]

    run(scene)
