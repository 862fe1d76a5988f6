"""Rests that somebody may cut short."""

import asyncio

from nodeagent.control.bell import Bell


def test_a_ring_wakes_who_rests() -> None:
    async def scene() -> None:
        bell = Bell()
        resting = [asyncio.create_task(bell.rest(3600)) for _ in range(3)]
        await asyncio.sleep(0)
        bell.ring()
        async with asyncio.timeout(10):
            await asyncio.gather(*resting)

    asyncio.run(scene())


def test_a_ring_before_the_rest_does_not_count() -> None:
    async def scene() -> bool:
        bell = Bell()
        bell.ring()
        resting = asyncio.create_task(bell.rest(3600))
        done, _ = await asyncio.wait([resting], timeout=0.05)
        resting.cancel()
        return bool(done)

    assert asyncio.run(scene()) is False


def test_a_rest_ends_by_itself() -> None:
    async def scene() -> None:
        async with asyncio.timeout(10):
            await Bell().rest(0.01)

    asyncio.run(scene())


def test_who_rests_may_be_woken_by_an_event_of_its_own() -> None:
    """Which a ring sets, so that it is told."""

    async def scene() -> None:
        bell, event = Bell(), asyncio.Event()
        async with asyncio.timeout(10):
            event.set()
            await bell.rest(3600, event)
            event.clear()
            resting = asyncio.create_task(bell.rest(3600, event))
            await asyncio.sleep(0)
            bell.ring()
            await resting
        assert event.is_set()
        event.clear()
        bell.ring()
        assert not event.is_set()

    asyncio.run(scene())
