"""Work beside the loop: one piece of a token at a time, whoever goes away, and never all threads for one."""

import asyncio
import threading

import pytest

from nodeagent import limits
from nodeagent.embedded.aside import Aside
from nodeagent.embedded.refusal import BadRequest, TooMany


def run(talk):
    """`talk(aside)` in a loop of its own."""

    async def main():
        aside = Aside()
        try:
            return await talk(aside)
        finally:
            aside.close()

    return asyncio.run(main())


class Held:
    """Work that goes on until it is let go, and counts how much of it runs at once."""

    def __init__(self):
        self.go, self.began, self.running, self.most, self._lock = threading.Event(), threading.Event(), 0, 0, threading.Lock()

    def __call__(self):
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.began.set()
        self.go.wait(10)
        with self._lock:
            self.running -= 1


async def until(event):
    while not event.is_set():
        await asyncio.sleep(0.001)


def test_it_is_done_in_another_thread_and_what_it_raises_is_raised():
    def refuse():
        raise BadRequest("no")

    async def talk(aside):
        assert await aside.run("a", threading.get_ident) != threading.get_ident()
        with pytest.raises(BadRequest, match="no"):
            await aside.run("a", refuse)
        assert await aside.run("a", lambda: 1) == 1

    run(talk)


def test_a_token_has_one_piece_at_a_time_and_others_go_on_beside_it():
    held = Held()

    async def talk(aside):
        mine = [asyncio.create_task(aside.run("a", held)) for _ in range(5)]
        await until(held.began)
        assert await aside.run("b", lambda: "other") == "other"
        held.go.set()
        await asyncio.gather(*mine)

    run(talk)
    assert held.most == 1


def test_a_caller_that_goes_away_keeps_its_turn_until_the_work_has_ended():
    held = Held()

    async def talk(aside):
        gone = asyncio.create_task(aside.run("a", held))
        await until(held.began)
        gone.cancel()
        next_ = asyncio.create_task(aside.run("a", lambda: held.running))
        await asyncio.sleep(0.01)
        assert (gone.done(), next_.done()) == (True, False)
        held.go.set()
        assert await next_ == 0

    run(talk)


def test_who_waits_and_goes_away_is_passed_over():
    held, done = Held(), []

    async def talk(aside):
        first = asyncio.create_task(aside.run("a", held))
        await until(held.began)
        gone, last = (asyncio.create_task(aside.run("a", lambda word=word: done.append(word))) for word in ("gone", "last"))
        await asyncio.sleep(0)
        gone.cancel()
        held.go.set()
        await asyncio.gather(first, last)
        assert aside._turns == {}

    run(talk)
    assert done == ["last"]


@pytest.mark.parametrize("turns", range(6))
def test_whenever_a_caller_goes_away_the_next_has_its_turn(turns):
    """Also in the moment in which it is its own."""

    async def talk(aside):
        held = Held()
        first = asyncio.create_task(aside.run("a", held))
        await until(held.began)
        gone, last = (asyncio.create_task(aside.run("a", lambda: "done")) for _ in range(2))
        await asyncio.sleep(0)
        held.go.set()
        await first
        for _ in range(turns):
            await asyncio.sleep(0)
        gone.cancel()
        assert await last == "done"
        assert [each for each in await asyncio.gather(gone, return_exceptions=True) if not isinstance(each, (str, asyncio.CancelledError))] == []
        assert aside._turns == {}

    run(talk)


def test_who_goes_away_just_before_its_turn_is_passed_over():
    async def talk(aside):
        aside._turns["a"] = []
        gone = asyncio.create_task(aside.run("a", lambda: "done"))
        await asyncio.sleep(0)
        gone.cancel()
        aside._pass_on("a")
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert aside._turns == {}

    run(talk)


def test_a_bounded_number_of_a_tokens_pieces_waits():
    held = Held()

    async def talk(aside):
        mine = [asyncio.create_task(aside.run("a", held)) for _ in range(limits.CATALOG_ASIDE_WAITING + 1)]
        await until(held.began)
        with pytest.raises(TooMany, match=f"{limits.CATALOG_ASIDE_WAITING} requests of this token wait"):
            await aside.run("a", held)
        with pytest.raises(TooMany, match="1 requests"):
            await aside.run("a", held, 1)
        held.go.set()
        await asyncio.gather(*mine)

    run(talk)


def test_as_many_threads_as_said():
    helds = [Held() for _ in range(limits.CATALOG_ASIDE + 1)]

    async def talk(aside):
        tasks = [asyncio.create_task(aside.run(str(number), held)) for number, held in enumerate(helds)]
        for held in helds[:-1]:
            await until(held.began)
        await asyncio.sleep(0.01)
        assert not helds[-1].began.is_set()
        for held in helds:
            held.go.set()
        await asyncio.gather(*tasks)

    run(talk)
