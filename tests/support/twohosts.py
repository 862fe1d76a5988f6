"""Two hosts' data planes in one event loop on loopback: real TLS, real sockets, no kernel rules.

host1 is 127.0.0.1 and calls as `shop`; host2 is 127.0.0.2 and runs `web`. The test plays supervisor (prepared sockets).
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import uvloop

from certs.csr import new_key_and_csr
from certs.local_ca import LocalCa
from certs.spiffe import service_id
from certs.svid import Svid
from nodeagent.config import AdminTable, CatalogTable, Config, HostTable
from nodeagent.decide.outbound import decide_outbound
from nodeagent.decide.route import find_destination
from nodeagent.model.address import Address
from nodeagent.model.identity import KeyRing, SvidKeys
from nodeagent.model.intention import Intention
from nodeagent.model.service import Host, Instance, Protocol, Service
from nodeagent.model.snapshot import Mesh, Registration, Snapshot
from nodeagent.proxy.call import Caller
from nodeagent.proxy.control import ControlChannel
from nodeagent.proxy.ends import StreamEnd, TcpEnd
from nodeagent.proxy.inbound import Inbound
from nodeagent.proxy.live import Live
from nodeagent.proxy.pool import TunnelPool
from nodeagent.proxy.supervisor import SupervisorChannel
from nodeagent.proxy.welcome import Welcome
from nodeagent.wire import requests
from nodeagent.wire.frames import WorkerStats

TRUST_DOMAIN = "11111111-2222-3333-4444-555555555555.consul"
Work = Callable[[], Awaitable[Any]]


def run(work: Work) -> Any:
    """Runs a test's coroutine on uvloop, as workers do, with a deadline."""

    async def within() -> Any:
        async with asyncio.timeout(60):
            return await work()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(within())


def key_ring(ca: LocalCa, *services: str, ttl: timedelta = timedelta(hours=1)) -> KeyRing:
    """Certificates for `services`, signed by `ca`."""
    now, svids = datetime.now(UTC), []
    for service in services:
        spiffe_id = service_id(TRUST_DOMAIN, "dc1", service)
        key_pem, csr_pem = new_key_and_csr(spiffe_id)
        svid = Svid.from_pem(ca.sign(csr_pem, spiffe_id, ttl, now), key_pem)
        svids.append(SvidKeys(service, svid.chain_pem, key_pem, svid.not_after.timestamp(), svid.serial, svid.not_before.timestamp()))
    return KeyRing(TRUST_DOMAIN, ca.cert_pem, tuple(svids))


def snapshot_of(host: str, tunnel_port: int, web: Address, *intentions: Intention, protocol: Protocol = "tcp") -> Snapshot:
    """The mesh of two hosts with `web` on host2, seen from `host`."""
    instance = Instance("web-1", "host2", (web,))
    service = Service("web", instances=(instance,), intentions=intentions, protocol=protocol)
    hosts = {"host1": Host("host1", ("127.0.0.1",), tunnel_port), "host2": Host("host2", ("127.0.0.2",), tunnel_port)}
    found = Registration(service, instance)
    return Snapshot(
        1, Mesh(TRUST_DOMAIN, "dc1", host, units="any"), {"web": service}, hosts, (), {web: found},
        {"127.0.0.1": hosts["host1"], "127.0.0.2": hosts["host2"]}, {web.port: found} if host == "host2" else {},
    )  # fmt: skip


def config_of(host: str, ip: str) -> Config:
    """The least configuration."""
    return Config(HostTable(host, (ip,)), CatalogTable("http://127.0.0.1:1"), admin=AdminTable(metrics=""))


def give_sockets(sock: socket.socket) -> None:
    """Plays the supervisor: answers WANT_SOCKETS with prepared sockets."""
    data = sock.recv(requests.MESSAGE_BYTES_MAX)
    if data and data[0] == requests.WANT_SOCKETS:
        made = [socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(64)]
        for each in made:
            each.setsockopt(socket.SOL_IP, 19, 1)
        family = requests.decode_family(data)
        socket.send_fds(sock, [requests.encode_family(requests.SOCKETS, family)], [each.fileno() for each in made])
        for each in made:
            each.close()


class HostPlane:
    """One host's worker, without its processes."""

    def __init__(self, host: str, ip: str) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sockets = [ours, theirs]
        loop.add_reader(theirs.fileno(), give_sockets, theirs)
        self.live = Live("b1", config_of(host, ip))
        self.supervisor = SupervisorChannel(ours, self.live.units)
        self.control = ControlChannel(self.live, lambda lag: WorkerStats(0, 0, 0, {}, 0, 0, [], lag, 0))
        self.pool = TunnelPool(self.live, self.control)
        self.caller = Caller(self.pool)
        self.welcome = Welcome(self.live, self.control, Inbound(self.live, self.supervisor).accept_stream)

    def close(self) -> None:
        """Gives everything back."""
        self.welcome.close()
        self.supervisor.close()
        for relay in list(self.live.relays.values()):
            relay.cut()
        for tunnel in list(self.live.tunnels):
            tunnel.lose("the test is over")
        loop = asyncio.get_running_loop()
        for sock in self.sockets:
            loop.remove_reader(sock.fileno())
            sock.close()


class TwoHosts:
    """Use with `async with`: host1 may call `web` on host2 unless `intentions` say otherwise."""

    def __init__(self, *intentions: Intention, protocol: Protocol = "tcp") -> None:
        self.intentions = intentions or (Intention("shop", "web", "allow"),)
        self.protocol: Protocol = protocol
        self._opened: list[socket.socket] = []

    async def __aenter__(self) -> "TwoHosts":
        self.ca = LocalCa.create(TRUST_DOMAIN, datetime.now(UTC))
        self.door = listening("127.0.0.2")
        self.app = listening("127.0.0.2")
        self.web = Address(*self.app.getsockname())
        self.one, self.two = HostPlane("host1", "127.0.0.1"), HostPlane("host2", "127.0.0.2")
        self.one.live.keys.replace(key_ring(self.ca, "shop"))
        self.two.live.keys.replace(key_ring(self.ca, "web"))
        self.follow(*self.intentions)
        self.two.welcome.listen(self.door)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.one.close()
        self.two.close()
        for sock in (self.door, self.app, *self._opened):
            sock.close()
        await asyncio.sleep(0.01)  # transports close in the loop's next turns

    def follow(self, *intentions: Intention) -> None:
        """Both hosts follow a mesh with these intentions."""
        port = self.door.getsockname()[1]
        self.one.live.follow(snapshot_of("host1", port, self.web, *intentions, protocol=self.protocol))
        self.two.live.follow(snapshot_of("host2", port, self.web, *intentions, protocol=self.protocol))

    async def call(self) -> StreamEnd:
        """A call from shop to web, as an outbound connection would make it."""
        snapshot = self.one.live.snapshot
        via = decide_outbound(snapshot, "shop", find_destination(snapshot, self.web, dst_is_local=False))
        return await self.one.caller.call("shop", via)

    async def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """The application's next connection."""
        self.app.setblocking(False)
        sock, addr = await asyncio.get_running_loop().sock_accept(self.app)
        self._opened.append(sock)
        return sock, addr

    async def client(self) -> "Client":
        """A client's TCP connection that ends in a fresh TcpEnd, as an accepted one would."""
        listener = listening("127.0.0.1")
        loop = asyncio.get_running_loop()
        made = loop.create_future()
        server = await loop.create_server(lambda: Accepting(made), sock=listener)
        sock = socket.socket()
        self._opened.append(sock)
        sock.setblocking(False)
        await loop.sock_connect(sock, listener.getsockname())
        end = await made
        server.close()
        return Client(sock, end)


class Accepting(TcpEnd):
    """A TcpEnd that says when it is connected."""

    def __init__(self, made: asyncio.Future[TcpEnd]) -> None:
        super().__init__()
        self.made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.made.set_result(self)


class Client:
    """A client's socket and the agent's end of it."""

    def __init__(self, sock: socket.socket, end: TcpEnd) -> None:
        self.sock, self.end = sock, end


def listening(ip: str) -> socket.socket:
    """A listening socket at any free port of `ip`."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((ip, 0))
    sock.listen(1024)
    return sock
