"""Places for handshakes: how many an address has, who gives way."""

import asyncio

import pytest

from nodeagent import limits
from nodeagent.proxy.hall import Hall, Knock
from tests.support.loop import run


@pytest.fixture(autouse=True)
def two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each address."""
    monkeypatch.setattr(limits, "HANDSHAKES_PER_SOURCE", 2)


def entered(hall: Hall, ip: str = "a") -> Knock:
    """A knock for which there was a place."""
    knock = hall.enter(ip)
    assert knock
    return knock


async def wait_unread(hall: Hall, knock: Knock) -> None:
    """As a handshake that waits for its hello for ever."""
    async with asyncio.timeout(60) as deadline:
        with hall.unread(knock, deadline):
            await asyncio.get_running_loop().create_future()


def test_an_address_has_so_many_places_and_gets_them_back() -> None:
    """Another address has its own."""
    hall = Hall()
    first, second = entered(hall), entered(hall)
    assert hall.enter("a") is None
    assert hall.enter("b")
    hall.leave(first)
    assert hall.enter("a")
    hall.leave(second)
    assert not hall._unread


def test_the_oldest_that_waits_for_its_hello_gives_way() -> None:
    """One after the other; those who have one keep their places."""

    async def scene() -> None:
        hall = Hall()
        heard, silent = entered(hall), entered(hall)
        waiting = asyncio.create_task(wait_unread(hall, silent))
        await asyncio.sleep(0)
        newer = entered(hall)
        with pytest.raises(TimeoutError):
            await waiting
        hall.leave(silent)
        assert (False, True, False) == (heard.gave_way, silent.gave_way, newer.gave_way)
        assert hall.enter("a") is None, "its place was given once, not twice"
        for knock in (heard, newer):
            hall.leave(knock)
        assert not hall._count
        assert not hall._unread

    run(scene)


async def wait_unknown(hall: Hall, knock: Knock) -> None:
    """As a handshake for a service of which nobody has heard here."""
    async with asyncio.timeout(60) as deadline:
        with hall.unknown(knock, deadline):
            await asyncio.get_running_loop().create_future()


def test_one_that_wants_what_is_not_known_here_gives_way_after_the_silent() -> None:
    """At once: a name is made up as easily as nothing is said."""

    async def scene() -> None:
        hall = Hall()
        odd, silent = entered(hall), entered(hall)
        waits = [asyncio.create_task(wait_unknown(hall, odd)), asyncio.create_task(wait_unread(hall, silent))]
        await asyncio.sleep(0)
        for ended, knock in ((1, silent), (0, odd)):
            entered(hall)
            with pytest.raises(TimeoutError):
                await waits[ended]
            assert knock.gave_way
        assert hall.enter("a") is None
        assert not hall._unknown

    run(scene)


async def wait_heard(hall: Hall, knock: Knock, *, is_silent: bool = True) -> None:
    """As a handshake that says nothing after its hello, or whose words wait for us."""
    async with asyncio.timeout(60) as deadline:
        with hall.heard(knock, deadline, lambda: is_silent):
            await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(("stalled_s", "gives_way"), [(0.0, True), (60.0, False)])
def test_one_that_stalls_after_its_hello_gives_way_where_nobody_else_can(monkeypatch: pytest.MonkeyPatch, stalled_s: float, *, gives_way: bool) -> None:
    """The oldest, once it has lasted longer than a peer takes; before it whoever has not even said hello."""
    monkeypatch.setattr(limits, "HANDSHAKE_STALLED_S", stalled_s)

    async def scene() -> None:
        hall = Hall()
        heard, silent = entered(hall), entered(hall)
        waits = [asyncio.create_task(wait_heard(hall, heard)), asyncio.create_task(wait_unread(hall, silent))]
        await asyncio.sleep(0)
        entered(hall)
        assert (heard.gave_way, silent.gave_way) == (False, True)
        assert (hall.enter("a") is not None) is gives_way
        assert heard.gave_way is gives_way
        assert hall.enter("b")
        done, _ = await asyncio.wait(waits if gives_way else waits[1:])
        assert [type(task.exception()) for task in done] == [TimeoutError] * len(done)
        waits[0].cancel()
        await asyncio.wait(waits)
        assert not hall._heard

    run(scene)


def test_one_that_waits_for_us_gives_way_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy worker must not end those that are nearest to their end."""
    monkeypatch.setattr(limits, "HANDSHAKE_STALLED_S", 0.0)

    async def scene() -> None:
        hall = Hall()
        waits = [asyncio.create_task(wait_heard(hall, entered(hall), is_silent=False)) for _ in range(2)]
        await asyncio.sleep(0)
        assert hall.enter("a") is None
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)

    run(scene)


def test_many_that_wait_give_way_in_their_order() -> None:
    """And nothing is kept of those that have gone."""

    async def scene() -> None:
        hall, waits = Hall(), []
        for _ in range(100):
            knock = entered(hall)
            waits.append(asyncio.create_task(wait_unread(hall, knock)))
            waits[-1].add_done_callback(lambda _, knock=knock: hall.leave(knock))
            await asyncio.sleep(0)
        done, _ = await asyncio.wait(waits[:-2])
        assert {type(task.exception()) for task in done} == {TimeoutError}
        assert not any(task.done() for task in waits[-2:])
        assert hall._count["a"] == 2
        for task in waits[-2:]:
            task.cancel()
        await asyncio.wait(waits)
        assert not hall._count
        assert not hall._unread

    run(scene)


def test_one_whose_time_is_up_in_the_same_turn_gives_way_too() -> None:
    """It has been told to end and has not yet: its place is free, and nothing breaks."""

    async def scene() -> None:
        hall, loop = Hall(), asyncio.get_running_loop()
        entered(hall)
        silent = entered(hall)
        waiting = asyncio.create_task(wait_unread(hall, silent))
        await asyncio.sleep(0)
        hall._unread["a"][silent].reschedule(loop.time())
        newer = loop.create_future()
        loop.call_soon(lambda: newer.set_result(hall.enter("a")))
        assert await newer
        with pytest.raises(TimeoutError):
            await waiting
        hall.leave(silent)
        assert hall._count["a"] == 2

    run(scene)
