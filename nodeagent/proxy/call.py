"""Calls through a tunnel: one CONNECT stream to the callee's agent for each connection."""

import asyncio

from nodeagent import limits
from nodeagent.decide.outbound import Via
from nodeagent.errors import Denied, PeerLost, UpstreamTimeout
from nodeagent.model.address import Address
from nodeagent.proxy.ends import StreamEnd
from nodeagent.proxy.pool import TunnelKey, TunnelPool
from nodeagent.wire import connect


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
            return await self._try_call(key, via)
        except PeerLost:  # no payload has passed yet: a tunnel that broke just now costs the caller nothing
            return await self._try_call(key, via)

    async def _try_call(self, key: TunnelKey, via: Via) -> StreamEnd:
        tunnel = await self._pool.tunnel(key)
        end = StreamEnd()
        end.stream = tunnel.session.open(connect.request_headers(via.address), end)
        try:
            await self._answer(end, via)
        except BaseException:
            end.reset()
            raise
        return end

    async def _answer(self, end: StreamEnd, via: Via) -> None:
        try:
            async with asyncio.timeout(limits.CALL_ANSWER_S):
                headers = await end.head
        except TimeoutError:
            raise UpstreamTimeout(f"the callee's agent gave no answer about {via.address} in time") from None
        except ConnectionResetError as error:
            raise PeerLost(f"{error} before the callee's agent had answered") from error
        connect.read_answer(headers)
