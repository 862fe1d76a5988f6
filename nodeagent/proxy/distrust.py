"""Tunnels whose credit is gone: a certificate of theirs was revoked, or its root removed. They are cut, streams and all.

Those in which HTTP/2 was broken have ended by themselves, and are recorded here, too.
"""

import asyncio
import functools

from nodeagent.errors import AgentError, PeerProtocol, Revoked, blame_caller
from nodeagent.proxy.ends import StreamEnd
from nodeagent.proxy.live import Live
from nodeagent.proxy.tunnel import Tunnel


def keep_trusted(live: Live, tunnel: Tunnel) -> None:
    """Keeps a tunnel whose handshake is over; keys may have changed during it.

    Raises:
        Revoked: they did, and it is cut.
    """
    try:
        live.keys.check(tunnel.standings)
    except Revoked as error:
        _cut(tunnel, error)
        raise
    live.keep_tunnel(tunnel)
    tunnel.on_lost.append(functools.partial(_note_broken, live))


def _note_broken(live: Live, tunnel: Tunnel) -> None:
    if tunnel.session.is_broken:
        whose = f"{tunnel.source} -> {tunnel.destination}, {tunnel.peer} at {tunnel.address}"
        error = PeerProtocol(f"HTTP/2 was broken in the tunnel {whose}: {tunnel.session.failure}")
        live.note_tunnel(tunnel, error if tunnel.is_client else blame_caller(error))


async def cut_distrusted(live: Live) -> None:
    """After a change of keys: ends every tunnel whose certificates are not relied on any more, one in a turn of the loop."""
    for tunnel in list(live.tunnels):
        if tunnel.session.failure:  # or it failed while those before it were cut
            continue
        try:
            live.keys.check(tunnel.standings)
        except Revoked as error:
            live.note_tunnel(tunnel, error)
            _end(live, tunnel, error)
            await asyncio.sleep(0)


def _end(live: Live, tunnel: Tunnel, error: AgentError) -> None:
    """A defect while one tunnel's streams are told must save neither that tunnel nor those after it."""
    try:
        _cut(tunnel, error)
    except Exception as defect:  # noqa: BLE001 - as said
        live.report(defect)
        if tunnel.transport:
            tunnel.transport.abort()


def _cut(tunnel: Tunnel, error: AgentError) -> None:
    """The connections that it carries end by that reason, here and at the other end, before the tunnel does."""
    for stream in list(tunnel.session.streams.values()):
        if isinstance(stream.handler, StreamEnd):
            stream.handler.condemn(error)
    tunnel.dismiss(str(error))
