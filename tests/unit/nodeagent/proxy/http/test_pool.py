"""Connections that rest: which is taken, how many are kept, and for how long."""

import asyncio

import pytest

from nodeagent import limits
from nodeagent.decide.chain import Target
from nodeagent.proxy.http.origin import Origin
from nodeagent.proxy.http.pool import OriginPool
from tests.support.http_scene import Scene
from tests.support.loop import run, until


def scene(work) -> None:
    async def within() -> None:
        async with Scene() as made:
            await work(made)

    run(within)


async def origin(made: Scene) -> Origin:
    opened = await made.role.open(None)
    opened.idle_since = asyncio.get_running_loop().time()
    return opened


def test_the_one_that_rested_least_is_taken_and_none_of_another_key() -> None:
    async def work(made: Scene) -> None:
        pool = OriginPool()
        first, second = await origin(made), await origin(made)
        pool.keep("a", first)
        pool.keep("a", second)
        assert pool.take("b") is None
        assert [pool.take("a"), pool.take("a"), pool.take("a")] == [second, first, None]
        assert len(pool) == 0
        first.drop()
        second.drop()

    scene(work)


def test_one_that_has_ended_is_not_taken() -> None:
    async def work(made: Scene) -> None:
        pool = OriginPool()
        pool.keep("a", await origin(made))
        (await made.app()).close()
        assert pool.take("a") is None

    scene(work)


def test_beyond_the_limits_the_oldest_is_closed() -> None:
    """Of the key, and of all."""

    async def work(made: Scene) -> None:
        pool = OriginPool(per_key=2, all_keys=3)
        those = [await origin(made) for _ in range(5)]
        for each in those[:3]:
            pool.keep("a", each)
        assert len(pool) == 2
        pool.keep("b", those[3])
        pool.keep("c", those[4])
        assert len(pool) == 3
        assert pool.take("a") is those[2]
        assert pool.take("a") is None
        pool.close()

    scene(work)


def test_limits_of_a_worker() -> None:
    assert (OriginPool()._per_key, OriginPool()._all_keys) == (limits.ORIGINS_IDLE, limits.ORIGINS_IDLE_ALL)


def test_what_rests_for_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ORIGIN_IDLE_S", 0.1)

    async def work(made: Scene) -> None:
        pool = OriginPool()
        pool.keep("a", await origin(made))
        app = await made.app()
        await asyncio.sleep(0.05)
        pool.keep("b", await origin(made))
        assert await app.rest() == b""
        await until(lambda: len(pool) == 0, "an empty pool")

    scene(work)


def test_a_pool_that_is_closed_keeps_none() -> None:
    """The worker drains: the next one is closed when its exchange is over."""

    async def work(made: Scene) -> None:
        pool = OriginPool()
        pool.keep("a", await origin(made))
        pool.close()
        assert await (await made.app()).rest() == b""
        pool.keep("a", await origin(made))
        assert len(pool) == 0
        assert await (await made.app()).rest() == b""

    scene(work)


def test_one_of_a_course_is_given_up() -> None:
    """The one that has rested longest there; of others none."""

    async def work(made: Scene) -> None:
        pool, course = OriginPool(), ("shop", Target("web"))
        first, second, other = await origin(made), await origin(made), await origin(made)
        first.course = second.course = course
        for key, each in (("a", other), ("a", first), ("b", second)):
            pool.keep(key, each)
        assert [True, True, False] == [pool.give_up(course) for _ in range(3)]
        assert len(pool) == 1
        assert pool.take("a") is other
        other.drop()

    scene(work)
