"""One request and its answer, in the catalog's own terms; handlers see nothing of HTTP below this."""

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from nodeagent import limits
from nodeagent.embedded.access import Act, Caller, check_access
from nodeagent.embedded.authority import Realm
from nodeagent.embedded.beats import Beats
from nodeagent.embedded.body import parse_object
from nodeagent.embedded.database import Change, index_of, newest_index, restored_by
from nodeagent.embedded.kept import Kept
from nodeagent.embedded.pace import Pace
from nodeagent.embedded.refusal import BadRequest, Forbidden
from nodeagent.embedded.store import Store
from nodeagent.embedded.tokens import find_caller

T = TypeVar("T")

_YES, _NO = ("1", "t", "T", "true", "True", "TRUE"), ("0", "f", "false")
_WAIT_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. `body` becomes JSON; bytes go as they are."""

    body: object
    status: int = 200
    encoding: str = ""
    """As in the header Content-Encoding; empty: as it is."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A read that may wait for a change."""

    topics: tuple[str, ...]
    """What to wait for."""
    read: Callable[[sqlite3.Connection], Answer]
    index: Callable[[sqlite3.Connection], int]
    """The number of the last change of what is read."""
    is_list: bool = False
    """It may be long, so it is read beside the event loop."""
    has_last_word: bool = False
    """Whoever waits when its token is revoked gets this answer still: it says that the token was."""


@dataclass(frozen=True, slots=True)
class Found:
    """An answer with the index that it is of."""

    answer: Answer
    index: int
    restored_by: int = 0
    """The change by which a snapshot took the place of what was there; 0: none did."""


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
    kept: Kept = field(default_factory=Kept)
    """The answer with all registrations."""
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
    takes_gzip: bool = False

    @property
    def is_pretty(self) -> bool:
        """Whether a person reads the answer."""
        return self.query.get("pretty", "false").lower() not in ("false", "0")

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
        text = await self.body()
        return await self.aside(lambda: parse_object(text)) if len(text) > limits.CATALOG_BODY_AT_ONCE_BYTES else parse_object(text)

    async def aside(self, work: Callable[[], T]) -> T:
        """What `work` gives, beside the event loop and in the caller's turn: for what may take longer than a millisecond.

        Raises:
            TooMany: much of the caller's waits already.
        """
        return await self.server.store.aside.run(self.caller.accessor, work)

    async def write(self, make: Callable[[Change], T]) -> T:
        """What `make` gives, once it is on the disk, for a token that still is one then: a body may take half a minute to arrive.

        Raises:
            Forbidden: it was revoked meanwhile.
            StorageFailed: nothing was stored.
        """

        def checked(change: Change) -> T:
            known_caller(change.connection, self.secret)
            return make(change)

        return await self.server.store.write(checked)

    def all(self, name: str) -> frozenset[str]:
        """Every value of a parameter that may stand in the query more than once."""
        return frozenset(self.repeated.get(name, (self.query[name],) if name in self.query else ()))

    def says(self, name: str) -> bool:
        """Whether `?name` stands in the query, where Consul looks at nothing else.

        Raises:
            BadRequest: its value says no, and to Consul that would be a yes.
        """
        if self.query.get(name, "").lower() in _NO:
            raise BadRequest(f"?{name}={self.query[name]} says yes to Consul, as any value does: leave it out")
        return name in self.query

    def truth(self, name: str, *, bare: bool) -> bool:
        """Whether `?name=` says yes, in the words of Consul. bare: what it says without a value.

        Raises:
            BadRequest: in other words.
        """
        text = self.query.get(name, "false")
        if text in _YES:
            return True
        if text and text.lower() not in _NO:
            raise BadRequest(f"?{name}={text[:40]}: must be true or false")
        return bare and not text

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


def encoded(body: object, *, is_pretty: bool) -> bytes | msgspec.Raw:
    """A body as it goes back; bytes, and what was encoded before, as they are."""
    if isinstance(body, (bytes, msgspec.Raw)):
        return body
    text = b"[" + b",".join(_parts(body)) + b"]" if isinstance(body, list) else msgspec.json.encode(body)
    return msgspec.Raw(msgspec.json.format(text, indent=4) if is_pretty else text)


def _parts(rows: list[Any]) -> Iterator[bytes]:
    """The rows, encoded and forgotten some at a time: to encode, or free, very many at once would hold up the other threads."""
    for at in range(0, len(rows), limits.DECODE_ROWS):
        some = rows[at : at + limits.DECODE_ROWS]
        rows[at : at + limits.DECODE_ROWS] = [None] * len(some)
        yield msgspec.json.encode(some)[1:-1]


Handler = Callable[[Ask], Awaitable[Answer | Watch]]


def watch(
    topics: tuple[str, ...], read: Callable[[sqlite3.Connection], Answer], *, is_list: bool = False, has_last_word: bool = False
) -> Watch:  # fmt: skip
    """A read of what these topics cover."""
    return Watch(topics, read, lambda connection: index_of(connection, topics), is_list, has_last_word)


def authenticate(server: Server, secret: str) -> Caller:
    """Whom the caller speaks for.

    Raises:
        Forbidden: no token, or one that is unknown or was revoked.
    """
    if not secret:
        raise Forbidden("this catalog answers nobody without a token: send X-Consul-Token")
    return server.store.read(lambda connection: known_caller(connection, secret))


def known_caller(connection: sqlite3.Connection, secret: str) -> Caller:
    """Whom the holder of `secret` speaks for now.

    Raises:
        Forbidden: it is no token's any more.
    """
    caller = find_caller(connection, secret)
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
        return (await _read(ask, wanted))[0]
    loop, store = asyncio.get_running_loop(), ask.server.store
    deadline = loop.time() + wait_s * (1 + ask.server.draw() / 16)
    with store.watchers.place(ask.caller.accessor):
        while True:
            with store.watchers.waiting(wanted.topics) as woken:
                found, newest = await _read(ask, wanted)
                if found.index > seen or seen > newest or loop.time() >= deadline or store.watchers.is_closing:
                    return found
                await asyncio.wait([woken], timeout=deadline - loop.time())
            if not wanted.has_last_word:
                authenticate(ask.server, ask.secret)


async def _read(ask: Ask, wanted: Watch) -> tuple[Found, int]:
    def read(connection: sqlite3.Connection) -> tuple[Found, int]:
        answer = wanted.read(connection)
        if wanted.is_list:
            answer = replace(answer, body=encoded(answer.body, is_pretty=ask.is_pretty))
        return Found(answer, max(wanted.index(connection), 1), restored_by(connection)), newest_index(connection)

    return await ask.server.store.read_aside(ask.caller.accessor, read) if wanted.is_list else ask.server.store.read(read)
