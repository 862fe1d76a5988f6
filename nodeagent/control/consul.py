"""Consul's HTTP API as two calls, `read` and `put`: TLS pinned, everything bounded, every failure a CatalogError."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self
from urllib.parse import quote

import aiohttp
import msgspec

from nodeagent import limits
from nodeagent.catalog.inventory import INVENTORY
from nodeagent.catalog.state import RESTORED
from nodeagent.config import CatalogTable
from nodeagent.control.bell import Bell
from nodeagent.control.catalog_tls import tls_of
from nodeagent.control.clock import CatalogClock
from nodeagent.control.gzipped import BadGzip, unpacked
from nodeagent.control.indexes import REWOUND_AT, Indexes
from nodeagent.control.json_http import why_unaccepted, why_unwelcome
from nodeagent.control.token import TokenFile
from nodeagent.errors import CatalogError
from nodeagent.observe.log import open_log

_log = open_log()

PULSE = "/v1/catalog/nodes"
"""Asked all the time: where this fails the catalog is away. Any other question may fail by itself."""
_FROM_CACHE = ("/v1/agent/", "/v1/connect/ca/roots")
"""Answered by the agent itself: Consul 1.8 says of these that there is no leader while there is one. Without one they are refused."""
CONNECT_OFF = "Connect must be enabled"
"""A Consul's words of it: for roots, leaves and chains it answers nothing else then, with status 500."""
_CURES = {CONNECT_OFF: "set connect { enabled = true } on the Consul servers"}
_KEY = b"PRIVATE KEY"
"""Connect's agent makes keys itself: what stands in such an answer is not for messages, whatever its status."""
_KEYS = "/v1/kv/"
_GZIPPED = (INVENTORY,)
"""What is asked for compressed: long, and a twentieth then. All else is short, and unpacking it would cost more than it saves."""
_DATA = "the catalog's data went back"
_CHUNK_BYTES = 65_536
_SHOWN_CHARS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 of the catalog; also where it says that there is no such key, which is `null` then."""

    body: bytes = field(repr=False)
    """May hold a key."""
    index: str | None
    """X-Consul-Index, as it came."""
    is_filtered: bool = False
    """The server says that it left out what the token may not read."""


class CatalogRefused(CatalogError):
    """The catalog is there and said no."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class CatalogRewound(CatalogError):
    """The question waits for an index that the catalog is behind of now: it was replaced by something older."""


class CatalogUnusable(CatalogError):
    """The catalog is there and its answer cannot be taken."""


class _Resolver(aiohttp.ThreadedResolver):
    """The system's, which passes on what it found."""

    def __init__(self, on_resolved: Callable[[tuple[str, ...]], None]) -> None:
        super().__init__()
        self._on_resolved = on_resolved

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        """Every address of the host."""
        found = await super().resolve(host, port, family)
        self._on_resolved(tuple(sorted({each["host"] for each in found})))
        return found


class Catalog:
    """A client of one catalog. Owned by control; `async with` closes its connections. Made with the clocks of an Environment."""

    def __init__(self, table: CatalogTable, now: Callable[[], float], elapsed: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._base = table.address.rstrip("/")
        self._token = TokenFile(table.token_file)
        self._session: aiohttp.ClientSession | None = None
        self._now, self._elapsed = now, elapsed
        self._recovery = Bell()
        self.failing_since: float | None = None
        """Unix seconds of the first of the failures to reach it; None while it answers."""
        self.answered_at = 0.0
        """Unix seconds of its last answer, whatever it was."""
        self.confirmed_at = 0.0
        """Unix seconds of the last answer that could be taken."""
        self.error = ""
        self.rewound = ""
        """What went back, in words."""
        self._rewound_at = (0.0, 0.0)
        """Unix seconds, and by the clock that nobody can set."""
        self.is_away = False
        """Whether the pulse failed, and nothing was answered since. Another question may hang by itself, time and again."""
        self._rewinds = 0
        self.indexes = Indexes()
        self._waiting: set[asyncio.Timeout] = set()
        """Of the questions that wait for news."""
        self._long = asyncio.Lock()
        """Held by the one answer that is read beyond CATALOG_LONG_BYTES: what a catalog can fill is one CATALOG_BODY_BYTES, not one for each question."""
        self.complained_at = -limits.CATALOG_COMPLAIN_S
        """When it was logged last that it cannot be reached, by the loop's clock."""
        self.clock = CatalogClock(now)
        self.on_resolved: Callable[[tuple[str, ...]], None] = lambda _: None
        """Is told where the catalog's name leads, each time that it is looked up for a connection; an address is no name."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_failure: object) -> None:
        await self._forget_session()

    async def read(self, path: str, index: int | None = None, wait_s: float = limits.CONSUL_WAIT_S) -> Answer:
        """The answer to a GET; with an index it blocks until there is a newer one, or for `wait_s`.

        Raises:
            CatalogRewound: the index waited for will not come.
            CatalogRefused: the catalog answered with another status than 200.
            CatalogUnusable: its answer could not be taken.
            CatalogError: it could not be reached.
        """
        if not index:
            return await self._ask("GET", path, {}, None, limits.CATALOG_READ_MARGIN_S)
        params = {"index": str(index), "wait": f"{int(wait_s)}s"}
        return await self._ask("GET", path, params, None, wait_s + wait_s / 16 + limits.CATALOG_READ_MARGIN_S)

    async def put(self, path: str, value: object) -> bytes:
        """The answer to a PUT of `value` as JSON.

        Raises:
            CatalogError: as `read`.
        """
        body = msgspec.json.encode(value)
        return (await self._ask("PUT", path, {}, body, limits.CATALOG_READ_MARGIN_S)).body

    async def post(self, path: str, value: object) -> bytes:
        """The answer to a POST of `value` as JSON.

        Raises:
            CatalogError: as `read`.
        """
        return (await self._ask("POST", path, {}, msgspec.json.encode(value), limits.CATALOG_READ_MARGIN_S)).body

    def note_index(self, path: str, header: str | None) -> None:
        """A path's index, with every answer: one that is lower than the last tells of another catalog than before."""
        if before := self.indexes.note(path, header):
            self.note_rewind(path, before, header)

    @property
    def is_settled(self) -> bool:
        """Whether it is known if it is an older one than before it was away; or it was not told within CATALOG_SETTLE_S."""
        return self.indexes.is_settled(self._elapsed())

    @property
    def is_rewound(self) -> bool:
        """Whether an index, or the data, went back within REWIND_SHOWN_S."""
        return bool(self.rewound) and self._elapsed() - self._rewound_at[1] < limits.REWIND_SHOWN_S

    def note_rewind(self, path: str, before: int, now: str | None) -> None:
        """An index has gone back: `status` says so for a while, and whoever waits for an index asks anew, as its path's did, too.

        Else it would wait for its whole time, minutes, for news of something that is gone.
        """
        if not self.rewound or self._elapsed() - self._rewound_at[1] >= limits.CATALOG_COMPLAIN_S:
            _log.warning("catalog_index_went_back", path=path, before=before, now=now)
        self._rewind(f"the catalog's index went back from {before} to {now} ({path})")

    def _note_restored(self, header: str | None) -> None:
        """A restore beside the running catalog, whose index goes on; noted before anybody takes what the answer lacks for gone."""
        if self.indexes.note_restored(header):
            _log.warning("catalog_went_back", restored_by=header)
            self._rewind(_DATA)

    def _rewind(self, what: str) -> None:
        self._rewound_at = self._now(), self._elapsed()
        self._rewinds += 1
        for waiting in self._waiting:
            if not waiting.expired():  # another watch has noted it in this very turn
                waiting.reschedule(asyncio.get_running_loop().time())
        self.rewound = what

    def saved(self) -> dict[str, int]:
        """How far it has counted, and since when it is an older one, for the disk."""
        return self.indexes.saved() | ({REWOUND_AT: int(self._rewound_at[0])} if self.is_rewound else {})

    def remember(self, saved: dict[str, int]) -> None:
        """Takes over what was saved before this process started: what is held back is not let go by a restart."""
        self.indexes.remember(saved)
        if at := saved.get(REWOUND_AT):
            self.rewound, self._rewound_at = _DATA, (at, self._elapsed() - max(self._now() - at, 0.0))

    @property
    def rewind_alarm(self) -> str:
        """What went back within REWIND_SHOWN_S; empty: nothing."""
        if not self.is_rewound:
            return ""
        at = datetime.fromtimestamp(self._rewound_at[0], UTC)
        return f"{self.rewound} at {at:%H:%M:%S} UTC: it was restored from a snapshot, or replaced; all was read anew, is it the right one?"

    async def rest(self, seconds: float, event: asyncio.Event | None = None) -> None:
        """Waits, but not longer than until the catalog is there again; or until the event is set, as it is then, too."""
        await self._recovery.rest(seconds, event)

    def wake(self) -> None:
        """Ends the rests: the catalog is well again."""
        self._recovery.ring()

    @property
    def rewinds(self) -> int:
        """How often it went back: an index of before is none that is to be waited for."""
        return self._rewinds

    async def _ask(
        self, method: str, path: str, params: dict[str, str], body: bytes | None, head_s: float
    ) -> Answer:  # fmt: skip
        rewinds = self._rewinds
        try:
            async with asyncio.timeout(head_s) as waiting:
                response = await self._send(method, path, params, body, waiting)
            self.clock.note(response.headers.get("Date", ""))
            self._note_restored(response.headers.get(RESTORED))
            async with response, asyncio.timeout(limits.CATALOG_READ_MARGIN_S):
                answer = await _take(response, path, self._token.why_none, self._long)
        except (CatalogRefused, CatalogUnusable):
            self._succeed()  # it is there: what it says to one question says nothing about the others
            raise
        except (TimeoutError, OSError, aiohttp.ClientError, CatalogError) as error:
            if "index" in params and rewinds != self._rewinds:
                raise CatalogRewound(f"{self._base}{path}: {self.rewound}") from error
            await self._fail(error, path)
            raise CatalogError(f"{self._base}{path}: {self.error}") from error
        self._succeed()
        self.confirmed_at = self.answered_at
        return answer

    async def _send(
        self, method: str, path: str, params: dict[str, str], body: bytes | None, waiting: asyncio.Timeout
    ) -> aiohttp.ClientResponse:  # fmt: skip
        """The head of an answer. waiting: within which it is awaited; ends at once for who waits for news, when an index has gone back."""
        session = self._session or self._open_session()
        if "index" in params:
            self._waiting.add(waiting)
        try:
            return await session.request(
                method, self._base + path, params=params, data=body, headers=self._headers(path), allow_redirects=False,
                server_hostname=self._table.server_name or None,
            )  # fmt: skip
        finally:
            self._waiting.discard(waiting)

    def _headers(self, path: str) -> dict[str, str]:
        headers = {"Accept-Encoding": "gzip" if path in _GZIPPED else "identity"}
        token = self._token.read()
        if token:
            headers["X-Consul-Token"] = token
        return headers

    def _open_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=limits.CATALOG_CONNECTIONS, ssl=tls_of(self._table), socket_factory=_open_socket, use_dns_cache=False,
            resolver=_Resolver(self.on_resolved),
        )  # fmt: skip
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.CATALOG_CONNECT_S)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
        )  # fmt: skip
        return self._session

    async def _forget_session(self) -> None:
        session, self._session = self._session, None
        if session:
            await session.close()

    def _succeed(self) -> None:
        self.answered_at, self.error = self._now(), ""
        self.indexes.note_answer(self._elapsed())
        self.failing_since = None
        if self.is_away:
            self.is_away = False
            self.wake()

    async def _fail(self, error: Exception, path: str) -> None:
        self.error = _explain(error, self._table)
        if self.failing_since is None:
            self.failing_since = self._now()
        if path == PULSE and not self.is_away:
            self.is_away = True
            self.indexes.doubt()
        if isinstance(error, aiohttp.ClientSSLError) or isinstance(error.__cause__, ssl.SSLError):
            await self._forget_session()  # files may have been replaced, the CA's or ours: they are read with a new session


def service_path(prefix: str, service: str) -> str:
    """`prefix` and the service's name as a path segment."""
    return prefix + quote(service, safe="")


def _open_socket(
    info: tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]],
) -> socket.socket:
    """A socket that notices a far end that is gone: a blocking query may be silent for five minutes."""
    sock = socket.socket(info[0], info[1], info[2])
    quarter = max(int(limits.CATALOG_DEAD_S / 4), 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2 * quarter)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, quarter)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.CATALOG_DEAD_S * 1000))
    return sock


async def _take(response: aiohttp.ClientResponse, path: str, lack: str, long: asyncio.Lock) -> Answer:
    """The answer in a response, if it is one that may be believed; `lack` explains a refusal."""
    body = await _body(response, path, long)
    if response.status == 404 and path.startswith(_KEYS) and "X-Consul-Index" in response.headers:
        body = b"null"
    elif response.status != 200:
        said = "(an answer with a key)" if _KEY in body else body[:_SHOWN_CHARS].decode("utf-8", "replace").strip()
        cures = [cure for words, cure in _CURES.items() if words in said] + [lack]
        raise CatalogRefused("; ".join((f"the catalog answered {response.status} to {path}: {said}", *filter(None, cures))), response.status)
    if not path.startswith(_FROM_CACHE) and response.headers.get("X-Consul-KnownLeader", "").lower() == "false":
        raise CatalogRefused(f"{path}: the catalog has no leader; its answer may be old", 500)
    filtered = response.headers.get("X-Consul-Results-Filtered-By-ACLs", "").lower() == "true"
    return Answer(body, response.headers.get("X-Consul-Index"), filtered)


async def _body(response: aiohttp.ClientResponse, path: str, long: asyncio.Lock) -> bytes:
    """All of it, unpacked."""
    chunks: list[bytes] = []  # a buffer that grows would be there twice, each time that it moves
    if not await _fill(chunks, response, limits.CATALOG_LONG_BYTES):
        async with long:
            await _fill(chunks, response, limits.CATALOG_BODY_BYTES)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity" and _size(chunks) <= limits.CATALOG_BODY_BYTES:
        async with long:
            chunks = await _unpacked(chunks, response.headers["Content-Encoding"], path)
    if _size(chunks) > limits.CATALOG_BODY_BYTES:
        chunks.clear()  # whoever holds the error while it rests holds this frame, too
        raise CatalogUnusable(f"{path}: an answer of more than {limits.CATALOG_BODY_BYTES} bytes; refused")
    return b"".join(chunks)


async def _unpacked(chunks: list[bytes], encoding: str, path: str) -> list[bytes]:
    if encoding.lower() != "gzip":
        chunks.clear()
        raise CatalogUnusable(f"{path}: an answer encoded as {encoding[:_SHOWN_CHARS]!r}, which nobody asked for")
    try:
        return await asyncio.to_thread(unpacked, chunks, limits.CATALOG_BODY_BYTES)
    except BadGzip as error:
        raise CatalogUnusable(f"{path}: an answer that cannot be unpacked: {error}") from error


def _size(chunks: list[bytes]) -> int:
    return sum(map(len, chunks))


async def _fill(chunks: list[bytes], response: aiohttp.ClientResponse, most: int) -> bool:
    """Whether the answer came to its end; else there are more than `most` bytes of it."""
    size = _size(chunks)
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            return False
    return True


def _explain(error: Exception, table: CatalogTable) -> str:
    """The failure in one sentence with its cure."""
    if isinstance(error, CatalogError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "no answer in time; is the catalog overloaded, or the way to it filtered?"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return why_unaccepted(error.certificate_error)
    if why := why_unwelcome(error.__cause__):
        return why
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot be reached ({error.os_error}); is the catalog running at {table.address}?"
    return f"the connection failed: {error or type(error).__name__}"
