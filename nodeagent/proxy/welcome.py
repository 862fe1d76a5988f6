"""Tunnels that peers open: who may knock, which certificate they are shown, who they prove to be."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Iterator, Mapping

import aiofastnet
from cryptography.x509 import Certificate

from certs.errors import CertificateError
from certs.spiffe import service_name, service_of_sni
from certs.standing import standing_of
from nodeagent import limits
from nodeagent.errors import AgentError, LimitReached, PeerIdentity, blame_caller
from nodeagent.model.address import Address, canonical_ip
from nodeagent.model.outcome import ConnectionRow
from nodeagent.proxy.control import ControlChannel
from nodeagent.proxy.descriptors import check_descriptor
from nodeagent.proxy.dial import readable
from nodeagent.proxy.distrust import keep_trusted
from nodeagent.proxy.ends import LINGER_RESET
from nodeagent.proxy.hall import Hall, Knock
from nodeagent.proxy.live import Live
from nodeagent.proxy.tls import ALPN, distrust, reason_of, verify_peer
from nodeagent.proxy.tunnel import OnRequest, Tunnel, unread
from nodeagent.wire import client_hello
from nodeagent.wire.client_hello import ClientHello, HelloError
from nodeagent.wire.peer_text import printable

_ACCEPTS_PER_TURN = 64


class Refused(Exception):
    """The hello is refused with an alert in clear, before TLS starts."""

    def __init__(self, description: int, why: str) -> None:
        super().__init__(why)
        self.alert = client_hello.alert(description)


class NotHere(Refused):
    """The service is not registered on this host, as far as this agent has heard."""

    def __init__(self, service: str) -> None:
        super().__init__(client_hello.ALERT_UNRECOGNIZED_NAME, f"{service} is not registered on this host")
        self.service = service


class Welcome:
    """Accepts on this worker's tunnel sockets. Owned by one worker."""

    def __init__(self, live: Live, control: ControlChannel, on_request: OnRequest) -> None:
        self._live = live
        self._control = control
        self._on_request = on_request
        self._loop = asyncio.get_running_loop()
        self._hall = Hall()
        self._listeners: list[socket.socket] = []
        self._handshakes = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @property
    def is_busy(self) -> bool:
        """Whether a handshake is in flight."""
        return self._handshakes > 0

    async def until_idle(self) -> None:
        """Returns when no handshake is in flight."""
        await self._is_idle.wait()

    def listen(self, sock: socket.socket) -> None:
        """Takes connections from `sock` from now on."""
        sock.setblocking(False)
        self._listeners.append(sock)
        self._loop.add_reader(sock.fileno(), self._accept, sock)

    def close(self) -> None:
        """Takes no more connections; handshakes in flight go on, for tunnels that carry what their callers wait with."""
        while self._listeners:
            sock = self._listeners.pop()
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def retire_stale(self) -> None:
        """After a change of keys: peers open fresh tunnels in time, rather than when a certificate ends by one's clock."""
        for tunnel in list(self._live.tunnels):
            if not tunnel.is_client and tunnel.serial != self._live.keys.serial(tunnel.destination):
                tunnel.retire()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # out of descriptors: the kernel keeps the queue meanwhile
                self._live.report(error)
                self._rest(listener)
                return
            self._knock(sock, Address(canonical_ip(peer[0]), peer[1]))

    def _rest(self, listener: socket.socket) -> None:
        """Looks away for a moment: asking a full process again and again helps nobody."""
        self._loop.remove_reader(listener.fileno())
        self._loop.call_later(limits.ACCEPT_REST_S, self._wake, listener)

    def _wake(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _knock(self, sock: socket.socket, peer: Address) -> None:
        """Only hosts of the mesh may spend our CPU on a handshake, and each only so many at a time."""
        sock.setblocking(False)
        hosts = self._live.snapshot.host_by_ip if self._live.generation else {}
        host = hosts.get(peer.ip)
        try:
            check_descriptor(sock.fileno())
            knock = self._admit(peer, is_known=host is not None)
        except AgentError as error:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            sock.close()
            self._record(peer, host.name if host else "", error, self._live.now())
            return
        self._live.spawn(self._let_in(sock, knock, peer, host.name if host else ""))

    def _admit(self, peer: Address, *, is_known: bool) -> Knock:
        """A place in the hall.

        Raises:
            PeerIdentity, LimitReached: why not.
        """
        if not is_known:
            raise PeerIdentity(f"{peer} is no host of this mesh, as far as this agent has heard")
        if self._live.accepted_from[peer.ip] >= limits.TUNNELS_PER_PEER:
            raise LimitReached(f"{peer.ip} has {limits.TUNNELS_PER_PEER} tunnels to this worker, as many as a peer may have")
        knock = self._hall.enter(peer.ip)
        if not knock:
            raise LimitReached(f"{peer.ip} has {limits.HANDSHAKES_PER_SOURCE} handshakes in flight with this worker")
        return knock

    async def _let_in(self, sock: socket.socket, knock: Knock, peer: Address, host: str) -> None:
        opened_at = self._live.now()
        self._count(1)
        try:
            service = await self._read_name(sock, knock)
            await self._handshake(sock, service, knock, peer, host)
        except (TimeoutError, OSError, HelloError, Refused, AgentError) as error:
            self._record(peer, host, self._explain(error, peer, host), opened_at)
        except Exception as error:  # noqa: BLE001 - one bad peer must not end the accept loop
            self._live.report(error)
        finally:
            self._hall.leave(knock)
            self._count(-1)

    def _count(self, change: int) -> None:
        self._handshakes += change
        if self._handshakes:
            self._is_idle.clear()
        else:
            self._is_idle.set()

    async def _read_name(self, sock: socket.socket, knock: Knock) -> str:
        """The local service that the peer asks for. The socket is closed if there is none; afterwards it is TLS's.

        Raises:
            Refused, HelloError, NoSvid, LimitReached, TimeoutError: why not.
        """
        try:
            hello = await self._hear(sock, knock)
            service = await self._news_of_service(hello, knock)
            await self._control.ensure_svid(service)
        except BaseException as error:
            _part(sock, error.alert if isinstance(error, Refused) else b"")
            raise
        return service

    async def _news_of_service(self, hello: ClientHello, knock: Knock) -> str:
        """As `_service_asked_for`; the peer's agent may have heard of the service's registration before this host's own.

        Raises:
            Refused: as there.
            LimitReached: a newer handshake got its place.
        """
        try:
            return self._service_asked_for(hello)
        except NotHere as error:
            mesh = self._live.snapshot.mesh
            if not mesh.is_late:
                raise
            with _giving_way(knock, f"asked for {error.service}, which is not known here"):
                async with asyncio.timeout(limits.HANDSHAKE_S) as deadline:
                    with self._hall.unknown(knock, deadline):
                        await self._live.first_use.ask(mesh.host, error.service)
        return self._service_asked_for(hello)

    async def _hear(self, sock: socket.socket, knock: Knock) -> ClientHello:
        """The hello.

        Raises:
            HelloError, LimitReached, TimeoutError: none came.
        """
        with _giving_way(knock, "said nothing whole"):
            async with asyncio.timeout(limits.HANDSHAKE_S) as deadline:
                with self._hall.unread(knock, deadline):
                    return await read_hello(sock)

    async def _handshake(self, sock: socket.socket, service: str, knock: Knock, peer: Address, host: str) -> None:
        live = self._live
        try:
            context = live.keys.context(service, is_server=True, now=live.now())
        except AgentError:
            sock.close()
            raise
        tunnel = Tunnel(live.budget, live.now, self._on_request)
        tunnel.destination, tunnel.peer, tunnel.address = service, host, peer
        tunnel.serial, tunnel.expires_at = live.keys.serial(service), live.keys.expires_at(service)
        tunnel.standings = (live.keys.own_standing(service),)
        tunnel.on_connected = functools.partial(self._name_caller, roots=live.keys.roots)
        tunnel.on_defect = live.report
        with _giving_way(knock, "did not go on after its hello"):
            async with asyncio.timeout(limits.HANDSHAKE_S) as deadline:
                with self._hall.heard(knock, deadline, lambda: not unread(sock)):
                    await aiofastnet.connect_accepted_socket(
                        self._loop, lambda: tunnel, sock, ssl=context,
                        ssl_handshake_timeout=limits.HANDSHAKE_S, ssl_shutdown_timeout=2,
                        ssl_incoming_bio_size=limits.TLS_BIO_BYTES, ssl_outgoing_bio_size=limits.TLS_BIO_BYTES,
                    )  # fmt: skip
        if tunnel.refusal:
            raise tunnel.refusal
        keep_trusted(live, tunnel)
        if not self._listeners:
            tunnel.retire()

    def _service_asked_for(self, hello: ClientHello) -> str:
        """The local service that the hello's server name means.

        Raises:
            Refused: with the alert that says why.
        """
        if client_hello.TLS_1_3 not in hello.versions:
            raise Refused(client_hello.ALERT_PROTOCOL_VERSION, "no TLS 1.3")
        if ALPN.encode() not in hello.protocols:
            offered = printable(", ".join(each.decode("ascii", "replace") for each in hello.protocols)) or "nothing"
            raise Refused(client_hello.ALERT_NO_APPLICATION_PROTOCOL, f"it offers {offered} by ALPN, not {ALPN}")
        mesh = self._live.snapshot.mesh  # it may be a saved one: the keys come later
        try:
            service = service_of_sni(hello.server_name, datacenter=mesh.datacenter, trust_domain=mesh.trust_domain)
        except CertificateError as error:
            raise Refused(client_hello.ALERT_UNRECOGNIZED_NAME, str(error)) from error
        known = self._live.snapshot.services.get(service)
        if not known or all(instance.host != mesh.host for instance in known.instances):
            raise NotHere(service)
        return service

    def _name_caller(self, tunnel: Tunnel, *, roots: Mapping[str, Certificate]) -> None:
        """Writes down which service the peer proved to be, before its first stream is read.

        roots: those that the handshake was verified with.

        Raises:
            PeerIdentity: none, or not of this mesh.
            Revoked: by a certificate that was taken back.
        """
        mesh, keys = self._live.snapshot.mesh, self._live.keys
        peer = verify_peer(tunnel.transport.get_extra_info("ssl_object"), self._live.now())
        tunnel.expires_at = min(tunnel.expires_at, peer.expires_at)
        try:
            tunnel.source = service_name(peer.spiffe_id, trust_domain=keys.trust_domain, datacenter=mesh.datacenter)
        except CertificateError as error:
            raise PeerIdentity(str(error)) from error
        tunnel.standings += (standing_of(peer.leaf, f"{tunnel.source} on {tunnel.peer}", roots),)
        keys.check(tunnel.standings)

    def _explain(self, error: Exception, peer: Address, host: str) -> AgentError:
        where = f"{host} at {peer}"
        if isinstance(error, AgentError):
            return error
        if isinstance(error, Refused):
            return PeerIdentity(f"{where} was refused: {error}")
        doubt = self._live.keys.doubt(self._live.now())
        return distrust(error, where, doubt) or PeerIdentity(f"{where} did not finish a tunnel handshake: {reason_of(error)}")

    def _record(self, peer: Address, host: str, error: AgentError, opened_at: float) -> None:
        now = self._live.now()
        side = blame_caller(error).side
        row = ConnectionRow(
            id=self._live.next_id(), direction="tunnel", client=str(peer), original_dst="",
            opened_at=opened_at, closed_at=now, peer=host, reason=error.reason, side=side, error=str(error)[: limits.ERROR_CHARS],
        )  # fmt: skip
        self._live.records.append(row)


@contextlib.contextmanager
def _giving_way(knock: Knock, why: str) -> Iterator[None]:
    """Says of a wait that ended for a newer handshake's sake that it did."""
    try:
        yield
    except TimeoutError as error:
        if knock.gave_way:
            raise LimitReached(f"{knock.ip} {why}, and gave its place to a newer handshake") from error
        raise


async def read_hello(sock: socket.socket) -> ClientHello:
    """The ClientHello that waits in `sock`, peeked: TLS will read it again.

    Raises:
        HelloError: not a hello, or the peer closed before it was complete.
    """
    needed = 0
    while True:
        try:
            head = sock.recv(limits.HELLO_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            await readable(sock)
            continue
        if len(head) <= needed and needed:
            raise HelloError("the peer closed in the middle of its ClientHello")
        if not head:
            raise HelloError("the peer closed without a word")
        found = client_hello.read_client_hello(head)
        if isinstance(found, ClientHello):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            return found
        # Wakes us when the whole record is there, or when the peer has closed: never for each byte.
        needed = len(head)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, found.total)
        await readable(sock)


def _part(sock: socket.socket, alert: bytes) -> None:
    """Closes, and tells a peer that can understand it why. What it sent is read: else the kernel would reset instead."""
    with contextlib.suppress(OSError):
        sock.recv(limits.HELLO_BYTES)
        sock.send(alert)
    sock.close()
