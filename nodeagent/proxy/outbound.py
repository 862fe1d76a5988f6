"""The path of a connection that a local workload opens."""

import socket
import struct
from typing import Any

from nodeagent import limits
from nodeagent.decide.first_use import host_to_ask
from nodeagent.decide.identify import service_of
from nodeagent.decide.mode import mode_of
from nodeagent.decide.outbound import Via, decide_outbound, is_read
from nodeagent.decide.route import Destination, ToService, find_destination
from nodeagent.errors import Loop
from nodeagent.model.address import Address, OriginalDst, canonical_ip
from nodeagent.model.outcome import ConnectionRow
from nodeagent.model.snapshot import Snapshot
from nodeagent.model.workload import Workload
from nodeagent.proxy.call import Caller
from nodeagent.proxy.descriptors import check_descriptor
from nodeagent.proxy.end import End
from nodeagent.proxy.ends import TcpEnd
from nodeagent.proxy.http.engine import Engine
from nodeagent.proxy.http.roles import CallerRole, Pair, Ways, codec_of
from nodeagent.proxy.live import Live
from nodeagent.proxy.owner import find_workload, stamped
from nodeagent.proxy.relay import Relay, refusals
from nodeagent.proxy.supervisor import SupervisorChannel
from nodeagent.proxy.upstream import connect_direct, is_local

_SO_ORIGINAL_DST = 80  # the same number at both levels: SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST
_OWN_PORTS = (limits.OUTBOUND_PORT, limits.INBOUND_PORT, limits.TUNNEL_PORT)


class Outbound:
    """Serves the connections that were redirected to this worker. Owned by its loop."""

    def __init__(self, live: Live, supervisor: SupervisorChannel, caller: Caller) -> None:
        self._live = live
        self._supervisor = supervisor
        self._caller = caller

    async def serve(self, client: TcpEnd) -> None:
        """Carries one captured connection to where it was going; the relay records how it went."""
        live = self._live
        addr, dst = caller_of(client.sock), original_dst(client.sock)
        relay = live.open(client, "outbound", addr, str(dst))
        if not addr.port:
            client.reset()
            return
        with refusals(relay, live):
            check_descriptor(client.sock.fileno())
            live.check_room()
            if host := host_to_ask(live.snapshot, self._destination(live.snapshot, dst)):
                await live.first_use.ask(host, dst.port)
            workload = await self._workload(client, dst)
            if relay.is_over:  # its client did not wait
                return
            via = self._decide(relay, workload, dst)
            relay.link(await self._upstream(relay, via, dst, addr))

    async def _workload(self, client: TcpEnd, dst: OriginalDst) -> Workload:
        """Who calls. Where no policy asks, the mark is enough: the supervisor is not bothered."""
        snapshot = self._live.snapshot
        if not isinstance(self._destination(snapshot, dst), ToService):
            return stamped(client.sock, self._live.units)
        return await find_workload(client.sock, self._live.units, snapshot, self._supervisor)

    def _decide(self, relay: Relay, workload: Workload, dst: OriginalDst) -> Via:
        """The way on, by the snapshot of this moment: a newer one may have come while the kernel was asked."""
        snapshot = self._live.snapshot
        destination = self._destination(snapshot, dst)
        source = service_of(snapshot, workload)
        note_caller(relay.row, source, workload, destination)
        note_rules(relay.row, snapshot)
        via = decide_outbound(snapshot, source, destination)
        note_way(relay.row, via)
        relay.row.is_read = is_read(snapshot, via)
        self._live.held.add(relay)
        return via

    def _destination(self, snapshot: Snapshot, dst: OriginalDst) -> Destination:
        return find_destination(snapshot, dst, dst_is_local=self._is_here(snapshot, dst))

    async def _upstream(self, relay: Relay, via: Via, dst: OriginalDst, client: Address) -> End:
        """What stands at the other end: requests that are read one by one find their way when they come."""
        if not relay.row.is_read:
            return await self._reach(relay.row.source, via, client)
        live, source = self._live, relay.row.source
        ways = Ways(
            decide=lambda snapshot: decide_outbound(snapshot, source, self._destination(snapshot, dst)),
            reach=lambda via: self._reach(source, via, client),
        )
        role = CallerRole(live, Pair(source, via.service, client.ip), via, ways)
        return Engine(role, live, codec_of(live, via.service))

    async def _reach(self, source: str, via: Via, client: Address) -> End:
        if via.path == "tunnel":
            return await self._caller.call(source, via)
        return await connect_direct(via.address, client.ip, self._live.ports)

    def _is_here(self, snapshot: Snapshot, dst: OriginalDst) -> bool:
        """Whether this machine has the address. A connection to an agent's own port would come back for ever.

        Raises:
            Loop: it is one of ours.
        """
        host = snapshot.host_by_ip.get(dst.ip)
        here = host.name == snapshot.mesh.host if host else is_local(dst.ip)
        if here:
            refuse_loops(dst)
        return here


def caller_of(sock: Any) -> Address:
    """Who opened the connection; port 0: it was reset before we looked, and the kernel no longer says."""
    try:
        ip, port = sock.getpeername()[:2]
    except OSError:
        return Address("0.0.0.0", 0)  # noqa: S104 - nobody
    return Address(canonical_ip(ip), port)


def refuse_loops(dst: Address) -> None:
    """Refuses what would come back to this agent for ever. dst: an address of this host.

    Raises:
        Loop: it is a port of the agent.
    """
    if dst.port in _OWN_PORTS:
        raise Loop(f"{dst} is a port of the agent itself; nothing may call it")


def original_dst(sock: Any) -> OriginalDst:
    """Where the client wanted to go; the listener's own address if it was not redirected.

    Source: Linux, nf_conntrack_l3proto: SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST.
    """
    try:
        if sock.family == socket.AF_INET6:
            raw = sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, 28)
            return _address(socket.AF_INET6, raw[8:24], raw[2:4])
        raw = sock.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, 16)
        return _address(socket.AF_INET, raw[4:8], raw[2:4])
    except OSError:
        ip, port = sock.getsockname()[:2]
        return OriginalDst(Address(canonical_ip(ip), port))


def _address(family: int, ip: bytes, port: bytes) -> OriginalDst:
    return OriginalDst(Address(canonical_ip(socket.inet_ntop(family, ip)), struct.unpack(">H", port)[0]))


def note_caller(row: ConnectionRow, source: str, workload: Workload, destination: object) -> None:
    """Writes down who calls whom."""
    row.source, row.how, row.unit = source, workload.how, workload.unit
    if workload.uid >= 0:
        row.uid = workload.uid
    if isinstance(destination, ToService):
        row.destination = destination.service.name
        row.peer = destination.host.name if destination.host else ""


def note_rules(row: ConnectionRow, snapshot: Snapshot) -> None:
    """Writes down by what its call is going to be decided, whatever comes of it."""
    row.mode, row.generation = mode_of(snapshot, row.destination), snapshot.generation


def note_way(row: ConnectionRow, via: Via) -> None:
    """Writes down what was decided."""
    row.path, row.upstream = via.path, str(via.address)
    row.permit = "; ".join(filter(None, (via.permit.by if via.permit else "", via.note)))
