"""Blocking queries that wait, by topic."""

import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from nodeagent import limits
from nodeagent.embedded.database import EVERYTHING
from nodeagent.embedded.refusal import TooMany
from nodeagent.embedded.values import prefix_topic, value_topic

_VALUE, _PREFIX = value_topic(""), prefix_topic("")


class Watchers:
    """Who waits for what. Owned by the event loop of the server."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._open: dict[str, int] = {}
        self.is_closing = False

    @property
    def askers(self) -> frozenset[str]:
        """Accessors of the tokens that wait for something now: their agents live."""
        return frozenset(self._open)

    @contextmanager
    def place(self, accessor: str) -> Iterator[None]:
        """One blocking query of a token.

        Raises:
            TooMany: that token has its share open already.
        """
        if self._open.get(accessor, 0) >= limits.BLOCKING_PER_TOKEN:
            raise TooMany(f"this token has {limits.BLOCKING_PER_TOKEN} blocking queries open, which is its limit")
        self._open[accessor] = self._open.get(accessor, 0) + 1
        try:
            yield
        finally:
            self._open[accessor] -= 1
            if not self._open[accessor]:
                del self._open[accessor]

    @contextmanager
    def waiting(self, topics: Iterable[str]) -> Iterator[asyncio.Future[None]]:
        """A future that is done when one of `topics` was touched, or the server stops."""
        woken = asyncio.get_running_loop().create_future()
        wanted = frozenset(topics)
        for topic in wanted:
            self._waiting.setdefault(topic, set()).add(woken)
        try:
            yield woken
        finally:
            for topic in wanted:
                self._waiting[topic].discard(woken)
                if not self._waiting[topic]:
                    del self._waiting[topic]

    def wake(self, touched: Iterable[str]) -> None:
        """Wakes whoever waits for one of the topics, or for a prefix of a touched key; everybody after a restore."""
        topics = set(touched)
        if EVERYTHING in topics:
            topics |= set(self._waiting)
        for topic in topics:
            self._wake_one(topic)
        keys = sorted(topic[len(_VALUE) :] for topic in topics if topic.startswith(_VALUE))
        for watched in [name for name in self._waiting if name.startswith(_PREFIX)] if keys else ():
            prefix = watched[len(_PREFIX) :]
            first = bisect_left(keys, prefix)  # of those that begin with it, when any does
            if keys[first : first + 1] and keys[first].startswith(prefix):
                self._wake_one(watched)

    def close(self) -> None:
        """Lets everybody answer at once, now and from now on."""
        self.is_closing = True
        for topic in list(self._waiting):
            self._wake_one(topic)

    def _wake_one(self, topic: str) -> None:
        for woken in self._waiting.get(topic, ()):
            if not woken.done():
                woken.set_result(None)
