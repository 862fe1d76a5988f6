"""The path of a connection that comes from outside: a stream in a peer's tunnel, or clear text."""

import contextlib
import functools

from nodeagent import limits
from nodeagent.decide.first_use import is_to_ask_here
from nodeagent.decide.inbound import decide_plaintext, decide_stream
from nodeagent.decide.outbound import Via, is_read
from nodeagent.decide.route import ToService, find_destination
from nodeagent.errors import AgentError, BadDestination, Loop, NoSnapshot, PeerIdentity, blame_caller
from nodeagent.model.address import Address, OriginalDst, canonical_ip
from nodeagent.proxy.descriptors import check_descriptor
from nodeagent.proxy.end import End
from nodeagent.proxy.ends import StreamEnd, TcpEnd
from nodeagent.proxy.http.engine import Engine
from nodeagent.proxy.http.roles import CalleeRole, Pair, codec_of
from nodeagent.proxy.live import Live
from nodeagent.proxy.outbound import caller_of, note_rules, note_way, refuse_loops
from nodeagent.proxy.relay import Relay, refusals
from nodeagent.proxy.supervisor import SupervisorChannel
from nodeagent.proxy.tunnel import Tunnel
from nodeagent.proxy.upstream import connect_direct, connect_preserving
from nodeagent.wire import connect
from nodeagent.wire.stream import Headers, Stream, StreamHandler


class Inbound:
    """Serves what reaches this host's applications from outside. Owned by the worker's loop."""

    def __init__(self, live: Live, supervisor: SupervisorChannel) -> None:
        self._live = live
        self._supervisor = supervisor

    def accept_stream(self, tunnel: Tunnel, stream: Stream, headers: Headers) -> StreamHandler:
        """A peer's workload calls: the stream's handler, which is served from here on.

        The relay is there before anything else can happen to the stream: the peer may reset it in the next bytes.
        """
        end = StreamEnd()
        end.stream = stream
        authority = dict(headers).get(b":authority", b"")[: limits.AUTHORITY_BYTES].decode("ascii", "replace")
        relay = self._live.open(end, "tunnel", tunnel.address, authority, tunnel.peer)
        row = relay.row
        row.source, row.how, row.destination = tunnel.source, "certificate", tunnel.destination
        self._live.spawn(self._serve_stream(tunnel, relay, stream, headers))
        return end

    async def serve_plaintext(self, client: TcpEnd) -> None:
        """Carries a connection that arrived in clear to the application, where the mode allows it."""
        live = self._live
        addr, name = caller_of(client.sock), client.sock.getsockname()
        dst = OriginalDst(Address(canonical_ip(name[0]), name[1]))
        relay = live.open(client, "plaintext", addr, str(dst))
        if not addr.port:
            client.reset()
            return
        with refusals(relay, live):
            check_descriptor(client.sock.fileno())
            live.check_room()
            refuse_loops(dst)
            to = find_destination(live.snapshot, dst, dst_is_local=True)
            relay.row.destination = to.service.name if isinstance(to, ToService) else ""
            note_rules(relay.row, live.snapshot)
            via = decide_plaintext(live.snapshot, dst)
            note_way(relay.row, via)
            live.held.add(relay)
            relay.link(await self._reach(via.address, addr.ip, via.service))

    async def _serve_stream(self, tunnel: Tunnel, relay: Relay, stream: Stream, headers: Headers) -> None:
        """Carries one stream to the application. This is where policy is enforced."""
        live = self._live
        with refusals(relay, live):
            live.check_room(tunnel.peer)  # before it may wait: it is an open connection from now on
            await self._look_for_news(headers)
            if relay.is_over:
                return
            check_expiry(tunnel)
            note_rules(relay.row, live.snapshot)
            asked = connect.read_request(headers)
            via = decide_stream(live.snapshot, tunnel.source, tunnel.destination, asked.authority)
            note_way(relay.row, via)
            refuse_loops(via.address)  # somebody registered a service there
            relay.row.is_read = is_read(live.snapshot, via)
            live.held.add(relay)
            upstream = await self._reach(via.address, tunnel.address.ip, via.service)
            stream.respond(connect.success_headers())
            relay.link(self._engine(tunnel, relay, via, upstream) if relay.row.is_read else upstream)

    def _engine(self, tunnel: Tunnel, relay: Relay, via: Via, upstream: End) -> Engine:
        """Reads the requests of a stream one by one, and hands those to the application that may come."""
        pair = Pair(tunnel.source, via.service, tunnel.address.ip)
        role = CalleeRole(self._live, pair, via.address, upstream, lambda: self._reach(via.address, pair.client_ip, via.service))
        role.check_caller = lambda: check_expiry(tunnel)
        role.on_unreached = functools.partial(_return, relay)
        return Engine(role, self._live, codec_of(self._live, via.service))

    async def _look_for_news(self, headers: Headers) -> None:
        """The peer's agent may have heard of a registration before this host's own."""
        with contextlib.suppress(BadDestination, Loop, NoSnapshot):  # which are refused by whoever serves the stream
            asked, snapshot = connect.read_request(headers), self._live.snapshot
            if is_to_ask_here(snapshot, asked.authority):
                await self._live.first_use.ask(snapshot.mesh.host, asked.authority.port)

    async def _reach(self, address: Address, client_ip: str, service: str) -> End:
        """The application, which sees the caller's address unless its service is told otherwise, or no rule brings its answers back."""
        if (":" in address.ip) != (":" in client_ip):
            raise BadDestination(f"{address} was asked for in a tunnel of the other IP family")
        table = self._live.config.service.get(service)
        if not self._live.config.intercept.enabled or (table and not table.preserve_source):
            return await connect_direct(address, "", self._live.ports)
        return await connect_preserving(address, client_ip, self._supervisor.prepared_socket, self._live.ports)


def check_expiry(tunnel: Tunnel) -> None:
    """Takes nothing new, neither a connection nor a request, by a certificate that has ended.

    Raises:
        PeerIdentity: one has.
    """
    if tunnel.has_expired:
        raise blame_caller(PeerIdentity(f"a certificate of the tunnel from {tunnel.source} on {tunnel.peer} has ended"))


def _return(relay: Relay, error: AgentError) -> None:
    """A request for an application that is not there: the caller's agent knows that it did not begin, and what else there is."""
    if isinstance(relay.downstream, StreamEnd):
        relay.downstream.give_back()
    relay.end_by(error)
