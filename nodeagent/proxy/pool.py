"""Tunnels that this worker has opened: found, opened once for all who wait, kept while they are used.

A tunnel carries one caller service's connections to one callee service on one peer host, never two callers': its
certificate is the caller's identity.
"""

import asyncio
import functools
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import aiofastnet
from cryptography.x509 import Certificate

from certs.spiffe import service_id, service_sni
from certs.standing import standing_of
from nodeagent import limits
from nodeagent.errors import AgentError, LimitReached, PeerIdentity, PeerLost, PeerUnreachable
from nodeagent.model.address import Address
from nodeagent.proxy.control import ControlChannel
from nodeagent.proxy.dial import dial
from nodeagent.proxy.distrust import keep_trusted
from nodeagent.proxy.live import Live
from nodeagent.proxy.tls import distrust, reason_of, verify_peer
from nodeagent.proxy.tunnel import Tunnel
from nodeagent.proxy.upstream import new_socket


class TunnelKey(NamedTuple):
    """What a tunnel is for."""

    source: str
    destination: str
    peer: Address
    """The peer agent's tunnel port at the address that the caller dialled."""
    host: str


@dataclass(slots=True)
class _Opening:
    """One attempt that several callers wait for."""

    task: asyncio.Task[Tunnel]
    waiting: int = 0


class TunnelPool:
    """Owned by one worker."""

    def __init__(self, live: Live, control: ControlChannel) -> None:
        self._live = live
        self._control = control
        self._tunnels: dict[TunnelKey, list[Tunnel]] = {}
        self._opening: dict[TunnelKey, _Opening] = {}

    async def tunnel(self, key: TunnelKey) -> Tunnel:
        """A tunnel with room for another stream; opened if there is none.

        Raises:
            NoSvid, PeerUnreachable, PeerIdentity, PeerLost, Revoked, LimitReached: why there is none.
        """
        stillborn = 0
        while stillborn < limits.TUNNEL_TRIES:
            found = self._usable(key)
            if found:
                return found
            opened = await self._open(key)
            stillborn += opened.is_ending
        raise PeerLost(f"{key.host} at {key.peer} ended each tunnel as soon as it was open; see its agent's log")

    def retire_stale(self) -> None:
        """After a change of keys: tunnels of an older certificate take no new streams."""
        for key, tunnels in self._tunnels.items():
            serial = self._live.keys.serial(key.source)
            for tunnel in tunnels:
                if tunnel.serial != serial:
                    tunnel.retire()

    def look_after(self, key: TunnelKey) -> None:
        """A call waits for an answer: silent tunnels are asked whether they live, and mute ones take no other call.

        What is open on those stays: it goes on when the peer does.
        """
        for tunnel in self._tunnels.get(key, ()):
            if tunnel.is_mute:
                tunnel.retire()
            tunnel.ask()

    def _usable(self, key: TunnelKey) -> Tunnel | None:
        usable = (tunnel for tunnel in self._lasting(key) if tunnel.has_room)
        return min(usable, key=lambda tunnel: len(tunnel.session.streams), default=None)

    def _lasting(self, key: TunnelKey) -> list[Tunnel]:
        """Those that take streams as soon as there is room; the others only finish what they carry."""
        serial = self._live.keys.serial(key.source)
        return [tunnel for tunnel in self._tunnels.get(key, ()) if tunnel.serial == serial and not tunnel.is_ending]

    async def _open(self, key: TunnelKey) -> Tunnel:
        """Waits for the one attempt that is under way for this key, or starts it."""
        opening = self._opening.get(key)
        if opening is None:
            self._check_room(key)
            opening = self._opening[key] = _Opening(asyncio.create_task(self._dial(key)))
            opening.task.add_done_callback(_hear)  # those who waited may have given up
        if opening.waiting >= limits.STREAMS_WAITING:
            raise LimitReached(f"{opening.waiting} connections wait for a tunnel to {key.host} already")
        opening.waiting += 1
        return await asyncio.shield(opening.task)

    def _check_room(self, key: TunnelKey) -> None:
        """Whether one more tunnel may be opened.

        Raises:
            LimitReached: all are full, or too many only finish what they carry.
        """
        where = f"to {key.destination} on {key.host}"
        if len(self._lasting(key)) >= limits.SESSIONS_PER_KEY:
            raise LimitReached(f"all {limits.SESSIONS_PER_KEY} tunnels {where} are full")
        if len(self._tunnels.get(key, ())) >= limits.TUNNELS_PER_KEY:
            raise LimitReached(f"{limits.TUNNELS_PER_KEY} tunnels {where} are open that finish what they carry")

    async def _dial(self, key: TunnelKey) -> Tunnel:
        try:
            tunnel = await self._handshake(key)
        finally:
            del self._opening[key]
        keep_trusted(self._live, tunnel)
        self._tunnels.setdefault(key, []).append(tunnel)
        tunnel.on_lost.append(lambda lost: self._forget(key, lost))
        return tunnel

    def _forget(self, key: TunnelKey, tunnel: Tunnel) -> None:
        tunnels = self._tunnels.get(key, [])
        if tunnel in tunnels:
            tunnels.remove(tunnel)
        if not tunnels:
            self._tunnels.pop(key, None)

    async def _handshake(self, key: TunnelKey) -> Tunnel:
        live = self._live
        mesh = live.snapshot.mesh
        await self._control.ensure_svid(key.source)
        context = live.keys.context(key.source, is_server=False, now=live.now())
        tunnel = Tunnel(live.budget, live.now, None)
        tunnel.source, tunnel.destination, tunnel.peer = key.source, key.destination, key.host
        tunnel.serial, tunnel.expires_at = live.keys.serial(key.source), live.keys.expires_at(key.source)
        tunnel.standings = (live.keys.own_standing(key.source),)
        tunnel.on_defect = live.report
        tunnel.on_connected = functools.partial(
            _demand, key=key, datacenter=mesh.datacenter, live=live, roots=live.keys.roots
        )
        sock = await _connect(key)
        sni = service_sni(key.destination, mesh.datacenter, live.keys.trust_domain)
        try:
            async with asyncio.timeout(limits.HANDSHAKE_S):
                await aiofastnet.create_connection(
                    asyncio.get_running_loop(), lambda: tunnel, sock=sock, ssl=context, server_hostname=sni,
                    ssl_handshake_timeout=limits.HANDSHAKE_S, ssl_shutdown_timeout=2,
                    ssl_incoming_bio_size=limits.TLS_BIO_BYTES, ssl_outgoing_bio_size=limits.TLS_BIO_BYTES,
                )  # fmt: skip
        except (OSError, TimeoutError) as error:
            raise _explain(error, key) from error
        if tunnel.refusal:
            raise tunnel.refusal
        return tunnel


def _hear(task: asyncio.Task[Tunnel]) -> None:
    """Takes note of how it ended: asyncio would print what nobody has asked for."""
    if not task.cancelled():
        task.exception()


def _demand(tunnel: Tunnel, *, key: TunnelKey, datacenter: str, live: Live, roots: Mapping[str, Certificate]) -> None:
    """The callee must prove exactly the service that was asked for. roots: those that the handshake was verified with.

    Raises:
        PeerIdentity: it proved another one.
        Revoked: by a certificate that was taken back.
    """
    peer = verify_peer(tunnel.transport.get_extra_info("ssl_object"), live.now())
    tunnel.expires_at = min(tunnel.expires_at, peer.expires_at)
    expected = service_id(live.keys.trust_domain, datacenter, key.destination)
    if peer.spiffe_id != expected:
        raise PeerIdentity(f"{key.host} at {key.peer} proved to be {peer.spiffe_id}, not {expected}")
    tunnel.standings += (standing_of(peer.leaf, f"{key.destination} on {key.host}", roots),)
    live.keys.check(tunnel.standings)


async def _connect(key: TunnelKey) -> socket.socket:
    sock = new_socket(key.peer.ip)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.PEER_TIMEOUT_S * 1000))
    try:
        async with asyncio.timeout(limits.CONNECT_S):
            await dial(sock, key.peer)
    except TimeoutError:
        sock.close()
        raise PeerUnreachable(f"{key.host} at {key.peer} did not answer within {limits.CONNECT_S:g} s") from None
    except OSError as error:
        sock.close()
        raise PeerUnreachable(f"{key.host} at {key.peer}: {error.strerror}; is nodeagent running there?") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _explain(error: Exception, key: TunnelKey) -> AgentError:
    """A handshake that failed: the peer's certificate, or the peer itself."""
    where = f"{key.host} at {key.peer}"
    cure = f"does it have a certificate for {key.destination}?"
    return distrust(error, where) or PeerUnreachable(f"{where} refused the tunnel ({reason_of(error)}); {cure}")
