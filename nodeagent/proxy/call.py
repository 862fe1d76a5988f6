"""Calls through a tunnel: one CONNECT stream to the callee's agent for each connection."""

import asyncio

from nodeagent import limits
from nodeagent.decide.outbound import Via
from nodeagent.errors import Denied, PeerLost, PeerUnreachable, UpstreamReset, UpstreamTimeout
from nodeagent.model.address import Address
from nodeagent.proxy.ends import StreamEnd
from nodeagent.proxy.pool import TunnelKey, TunnelPool
from nodeagent.proxy.tunnel import Tunnel
from nodeagent.wire import connect
from nodeagent.wire.stream import REFUSED_STREAM, Headers


class _Mute(PeerLost):
    """The tunnel is open, and its peer says nothing."""


class Caller:
    """Owned by one worker."""

    def __init__(self, pool: TunnelPool) -> None:
        self._pool = pool

    async def call(self, source: str, via: Via) -> StreamEnd:
        """A stream at whose other end the callee's agent has reached the application.

        Raises:
            AgentError: no tunnel, or the callee's agent said no.
        """
        if via.permit is None or via.peer is None:
            raise Denied(f"{source} -> {via.service}: a tunnel needs a permit and a peer")
        key = TunnelKey(source, via.service, Address(via.address.ip, via.peer.tunnel_port), via.peer.name)
        try:
            return await self._try_call(await self._pool.tunnel(key), key, via)
        except _Mute:
            return await self._try_call(await self._open_soon(key), key, via)
        except PeerLost:  # no payload has passed yet: a tunnel that broke just now costs the caller nothing
            return await self._try_call(await self._pool.tunnel(key), key, via)

    async def _open_soon(self, key: TunnelKey) -> Tunnel:
        """Another tunnel to a host that has said nothing for a while: the next worker may live.

        Raises:
            PeerUnreachable: it says nothing there, either.
        """
        try:
            async with asyncio.timeout(limits.CALL_AGAIN_S):
                return await self._pool.tunnel(key)
        except TimeoutError:
            raise PeerUnreachable(f"{key.host} at {key.peer} says nothing; does its agent hang?") from None

    async def _try_call(self, tunnel: Tunnel, key: TunnelKey, via: Via) -> StreamEnd:
        end = StreamEnd()
        end.is_stale = lambda: tunnel.is_ending
        end.stream = tunnel.session.open(connect.request_headers(via.address), end)
        try:
            connect.read_answer(await self._answer(tunnel, key, end))
        except BaseException:
            end.reset()
            raise
        return end

    async def _answer(self, tunnel: Tunnel, key: TunnelKey, end: StreamEnd) -> Headers:
        """What the callee's agent says. One that lives has all its time, as its application may be slow.

        A stream that it reset was served, and the application may have been reached: only what nobody has taken may be asked again.
        Source: RFC 9113, section 8.7.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + limits.CALL_ANSWER_S
        while not (await asyncio.wait((end.head,), timeout=min(limits.CALL_LOOK_S, until - loop.time())))[0]:
            if loop.time() >= until:
                raise UpstreamTimeout(f"{key.host} gave no answer about {key.destination} in time")
            self._pool.look_after(key)
            if tunnel.is_mute:
                raise _Mute(f"{key.host} says nothing about {key.destination}, nor that it lives")
        try:
            return end.head.result()
        except ConnectionResetError as error:
            if end.was_lost or end.reset_code == REFUSED_STREAM:
                raise PeerLost(f"{error} before the callee's agent had answered") from error
            raise connect.read_reset(end.reset_code) or UpstreamReset(str(error)) from error
