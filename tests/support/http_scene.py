"""One engine between a client and an application that the test plays: real sockets on loopback, no policy."""

import asyncio
import socket
from typing import Self

import msgspec

from nodeagent.config import LogTable
from nodeagent.decide.chain import Leg
from nodeagent.decide.dispatch import Course
from nodeagent.decide.hashing import Key
from nodeagent.decide.retry import Budget
from nodeagent.errors import AgentError
from nodeagent.model.address import Address
from nodeagent.model.message import Headers, RequestHead, ResponseHead
from nodeagent.model.outcome import ConnectionRow, RequestRow
from nodeagent.proxy.http.engine import Engine
from nodeagent.proxy.http.exchange import Asked, Exchange, Plan
from nodeagent.proxy.http.origin import Origin
from nodeagent.proxy.http.roles import ask
from nodeagent.proxy.http.routing import Trip
from nodeagent.proxy.live import Live
from nodeagent.proxy.relay import Relay
from nodeagent.proxy.upstream import connect_direct
from tests.support.twohosts import Accepting, config_of, listening

KEY = "key"


class PlainRole:
    """Everything may pass, as it came; connections rest in the worker's pool."""

    source, destination, direction = "shop", "web", "outbound"

    def __init__(self, live: Live, address: Address) -> None:
        self._live, self._address = live, address
        self.refusal: AgentError | None = None
        self.refuses_to_open: AgentError | None = None
        self.refuses_again: AgentError | None = None
        self.opened = 0
        self.failures = 0
        self.turns = 0
        self.waits_for: Course | None = None
        """Until a request is decided once more."""
        self.leg: Leg | None = None
        self.waits: list[float] = []
        """For tries to come; without any a request is not tried again."""
        self.asked_again: list[str] = []

    def ask(self, head: RequestHead) -> Asked:
        return ask(head)

    def plan(self, head: RequestHead, asked: Asked) -> Plan:
        if self.refusal:
            raise self.refusal
        plan = Plan(head.target, head.headers, key=KEY, instance=str(self._address))
        plan.waits_for = self.waits_for
        if self.leg:
            plan.trip = Trip(self.leg, head.target, Key(None), Budget())
        return plan

    def again(self, head: RequestHead, asked: Asked, plan: Plan) -> Plan:
        if self.refuses_again:
            raise self.refuses_again
        plan.waits_for = None
        return plan

    def retry_s(self, exchange: Exchange, failure: str | None, *, started: bool | None) -> float | None:
        self.asked_again.append(failure or str(exchange.status))
        return self.waits.pop(0) if self.waits else None

    async def turn(self, plan: Plan) -> None:
        self.turns += 1
        await asyncio.sleep(0)

    def done(self, plan: Plan, *, is_failure: bool) -> None:
        self.failures += is_failure

    def take(self, plan: Plan) -> Origin | None:
        return self._live.http.origins.take(plan.key)

    async def open(self, plan: Plan) -> Origin:
        self.opened += 1
        refusal, self.refuses_to_open = self.refuses_to_open, None
        if refusal:
            raise refusal
        return Origin(await connect_direct(self._address, "127.0.0.1", self._live.ports), "httptools")

    def keep(self, plan: Plan, origin: Origin) -> None:
        self._live.http.origins.keep(plan.key, origin)

    def answer_headers(self, plan: Plan, head: ResponseHead) -> Headers:
        return head.headers

    def leave(self) -> None:
        pass


class Talk:
    """One side of a connection, in the hands of the test."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.heard = b""
        self._loop = asyncio.get_running_loop()

    async def say(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def hear(self, end: bytes) -> bytes:
        """What came until `end`, and that."""
        while end not in self.heard:
            data = await self._loop.sock_recv(self.sock, 65536)
            assert data, f"ended after {self.heard!r}"
            self.heard += data
        found, _, self.heard = self.heard.partition(end)
        return found + end

    async def head(self) -> bytes:
        return await self.hear(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """All that comes until the end."""
        while data := await self._loop.sock_recv(self.sock, 65536):
            self.heard += data
        heard, self.heard = self.heard, b""
        return heard

    async def is_reset(self) -> bool:
        try:
            await self.rest()
        except ConnectionResetError:
            return True
        return False

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()


class Scene:
    """Use with `async with`."""

    async def __aenter__(self) -> Self:
        config = msgspec.structs.replace(config_of("host1", "127.0.0.1"), log=LogTable(requests="all"))
        self.live = Live("t", config)
        self.listener = listening("127.0.0.1")
        self.listener.setblocking(False)
        self.role = PlainRole(self.live, Address(*self.listener.getsockname()))
        self._talks: list[Talk] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        self.live.http.origins.close()
        for relay in list(self.live.relays.values()):
            relay.cut()
        for talk in self._talks:
            talk.close()
        self.listener.close()
        await asyncio.sleep(0.01)

    async def client(self) -> Talk:
        """A client, whose connection has reached an engine."""
        loop = asyncio.get_running_loop()
        door, made = listening("127.0.0.1"), loop.create_future()
        server = await loop.create_server(lambda: Accepting(made), sock=door)
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, door.getsockname())
        end = await made
        server.close()
        relay = self.live.open(end, "outbound", Address("127.0.0.1", 1), "x")
        self.relay: Relay = relay
        relay.link(Engine(self.role, self.live, "httptools"))
        return self._keep(sock)

    async def app(self) -> Talk:
        """The application's next connection."""
        sock, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        return self._keep(sock)

    def _keep(self, sock: socket.socket) -> Talk:
        talk = Talk(sock)
        self._talks.append(talk)
        return talk

    def requests(self) -> list[RequestRow]:
        """What was recorded since the last call."""
        records = self.live.records.take()
        return records.requests if records else []

    def connections(self) -> list[ConnectionRow]:
        records = self.live.records.take()
        return records.rows if records else []
