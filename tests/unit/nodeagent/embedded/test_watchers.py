"""Watchers: woken by their own topics only, bounded, and let go at the end."""

import asyncio
from contextlib import ExitStack

import pytest

from nodeagent import limits
from nodeagent.embedded.database import EVERYTHING
from nodeagent.embedded.refusal import TooMany
from nodeagent.embedded.watchers import Watchers


def woken_by(topics, touched):
    async def run():
        watchers = Watchers()
        with watchers.waiting(topics) as future:
            watchers.wake(touched)
            return future.done()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("topics", "touched", "woken"),
    [
        (["service:web"], ["service:web"], True),
        (["service:web"], ["service:db", "services"], False),
        (["a", "b"], ["b"], True),
        (["kv:a/b"], ["kv:a/b"], True),
        (["kv:a/b"], ["kv:a"], False),
        (["kv-prefix:a/"], ["kv:a/b"], True),
        (["kv-prefix:a/"], ["kv:b/a/"], False),
        (["kv-prefix:"], ["kv:anything"], True),
        (["kv-prefix:"], ["service:web"], False),
    ],
)
def test_who_is_woken_by_what(topics, touched, woken):
    assert woken_by(topics, touched) is woken


def test_closing_wakes_everybody_and_waking_twice_is_fine():
    async def run():
        watchers = Watchers()
        with watchers.waiting(["a"]) as first, watchers.waiting(["a", "b"]) as second:
            watchers.wake(["a", "a"])
            watchers.close()
            return first.done(), second.done(), watchers.is_closing

    assert asyncio.run(run()) == (True, True, True)


def test_nothing_is_left_of_one_that_went_away():
    async def run():
        watchers = Watchers()
        with watchers.waiting(["a"]), watchers.place("token"):
            pass
        assert watchers.askers == frozenset()
        return watchers._waiting, watchers._open

    assert asyncio.run(run()) == ({}, {})


def test_a_token_has_so_many_places_and_others_have_theirs(monkeypatch):
    monkeypatch.setattr(limits, "BLOCKING_PER_TOKEN", 2)
    watchers = Watchers()
    with watchers.place("one"), watchers.place("one"):
        with pytest.raises(TooMany, match="2 blocking queries"), watchers.place("one"):
            pass
        with watchers.place("two"):
            pass
    with watchers.place("one"):
        pass


def test_a_restore_wakes_everybody():
    async def run():
        watchers = Watchers()
        with watchers.waiting(["service:web"]) as one, watchers.waiting(["kv:a", "kv-prefix:b"]) as other:
            watchers.wake(["nodes"])
            assert (one.done(), other.done()) == (False, False)
            watchers.wake([EVERYTHING])
            assert (one.done(), other.done()) == (True, True)

    asyncio.run(run())


def test_many_keys_at_once_wake_whoever_watches_above_one_of_them():
    async def run():
        watchers = Watchers()
        keys = [f"kv:a/{number}" for number in range(100)] + ["kv:b"]
        with ExitStack() as stack:
            woken = {prefix: stack.enter_context(watchers.waiting([f"kv-prefix:{prefix}"])) for prefix in ("", "a/", "a/50", "a/x", "b", "b/", "0", "c")}
            watchers.wake(keys)
            return [prefix for prefix, future in woken.items() if future.done()]

    assert asyncio.run(run()) == ["", "a/", "a/50", "b"]
