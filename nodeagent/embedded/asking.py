"""One request and its answer, in the catalog's own terms; handlers see nothing of HTTP below this."""

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from nodeagent import limits
from nodeagent.embedded.access import Act, Caller, check_access
from nodeagent.embedded.authority import Realm
from nodeagent.embedded.beats import Beats
from nodeagent.embedded.body import parse_object
from nodeagent.embedded.database import index_of, newest_index
from nodeagent.embedded.pace import Pace
from nodeagent.embedded.refusal import BadRequest, Forbidden
from nodeagent.embedded.store import Store
from nodeagent.embedded.tokens import find_caller

_WAIT_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. `body` becomes JSON; bytes go as they are."""

    body: object
    status: int = 200


@dataclass(frozen=True, slots=True)
class Watch:
    """A read that may wait for a change."""

    topics: tuple[str, ...]
    """What to wait for."""
    read: Callable[[sqlite3.Connection], Answer]
    index: Callable[[sqlite3.Connection], int]
    """The number of the last change of what is read."""
    has_last_word: bool = False
    """Whoever waits when its token is revoked gets this answer still: it says that the token was."""


@dataclass(frozen=True, slots=True)
class Found:
    """An answer with the index that it is of."""

    answer: Answer
    index: int


@dataclass(frozen=True, slots=True)
class Server:
    """What all requests share."""

    store: Store
    realm: Realm
    listen: str
    """Address and port, as told to clients that ask for the leader."""
    leaf_ttl: timedelta
    now: Callable[[], datetime]
    draw: Callable[[], float]
    pace: Pace = field(default_factory=Pace)
    beats: Beats = field(default_factory=Beats)
    heard: dict[str, int] = field(default_factory=dict)
    """Accessor -> index of the roots that an agent has taken in: it asks for what is newer than that."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a known caller."""

    server: Server
    caller: Caller
    secret: str = field(repr=False)
    query: Mapping[str, str]
    path: Mapping[str, str]
    """The parts of the path that are names."""
    body: Callable[[], Awaitable[bytes]]
    repeated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The values of those parameters that stand in the query more than once; the first one is in `query`."""

    def check(self, act: Act) -> None:
        """Nothing, when the caller may do that.

        Raises:
            Forbidden: else.
        """
        check_access(self.caller, act)

    async def json(self) -> dict[str, Any]:
        """The JSON object in the body.

        Raises:
            BadRequest: it is none.
        """
        return parse_object(await self.body())

    def all(self, name: str) -> frozenset[str]:
        """Every value of a parameter that may stand in the query more than once, but empty ones."""
        values = self.repeated.get(name, (self.query.get(name, ""),))
        return frozenset(value for value in values if value)

    def flag(self, name: str) -> bool:
        """Whether `?name` stands in the query, as Consul reads it: with any value but false."""
        return self.query.get(name, "false").lower() not in ("false", "0")

    def number(self, name: str) -> int | None:
        """The number in `?name=`; None: absent.

        Raises:
            BadRequest: not a number.
        """
        text = self.query.get(name)
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise BadRequest(f"?{name}={text[:40]} is not a number")
        return int(text)


Handler = Callable[[Ask], Awaitable[Answer | Watch]]


def watch(
    topics: tuple[str, ...], read: Callable[[sqlite3.Connection], Answer], *, has_last_word: bool = False
) -> Watch:  # fmt: skip
    """A read of what these topics cover."""
    return Watch(topics, read, lambda connection: index_of(connection, topics), has_last_word)


def authenticate(server: Server, secret: str) -> Caller:
    """Whom the caller speaks for.

    Raises:
        Forbidden: no token, or one that is unknown or was revoked.
    """
    if not secret:
        raise Forbidden("this catalog answers nobody without a token: send X-Consul-Token")
    caller = server.store.read(lambda connection: find_caller(connection, secret))
    if caller is None:
        raise Forbidden("the token is unknown or was revoked")
    return caller


def parse_wait(text: str) -> float:
    """Seconds in Consul's `?wait=`: `10s`, `5m`, `1m30s`; at most CATALOG_WAIT_MAX_S, by default CONSUL_WAIT_S.

    Raises:
        BadRequest: not of that form.
    """
    if not text:
        return limits.CONSUL_WAIT_S
    if not re.fullmatch(r"([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h))+", text):
        raise BadRequest(f"?wait={text[:40]} is not a duration such as 30s, 5m or 500ms")
    parts = re.findall(r"([0-9.]+)(ms|s|m|h)", text)
    wait_s = sum(float(number) * _WAIT_UNITS[unit] for number, unit in parts)
    return min(wait_s, limits.CATALOG_WAIT_MAX_S) or limits.CONSUL_WAIT_S


async def find(ask: Ask, wanted: Watch) -> Found:
    """What a watch reads: at once without `?index=`, else when it is newer than that, or the time is up.

    An index from the future, as clients hold after a restored backup, does not wait: the answer lets them start anew.

    Raises:
        BadRequest: bad index or wait.
        TooMany: the caller's token has its share open.
        Forbidden: the token was revoked meanwhile.
    """
    seen, wait_s = ask.number("index") or 0, parse_wait(ask.query.get("wait", ""))
    if not seen:
        return _read(ask, wanted)[0]
    loop, store = asyncio.get_running_loop(), ask.server.store
    deadline = loop.time() + wait_s * (1 + ask.server.draw() / 16)
    with store.watchers.place(ask.caller.accessor):
        while True:
            with store.watchers.waiting(wanted.topics) as woken:
                found, newest = _read(ask, wanted)
                if found.index > seen or seen > newest or loop.time() >= deadline or store.watchers.is_closing:
                    return found
                await asyncio.wait([woken], timeout=deadline - loop.time())
            if not wanted.has_last_word:
                authenticate(ask.server, ask.secret)


def _read(ask: Ask, wanted: Watch) -> tuple[Found, int]:
    return ask.server.store.read(
        lambda connection: (
            Found(wanted.read(connection), max(wanted.index(connection), 1)),
            newest_index(connection),
        )
    )
