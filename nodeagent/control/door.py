"""Accepts HTTP connections under three limits: who, how many, and how long. One slow caller blocks nobody."""

import asyncio
import socket
from collections.abc import Callable

from aiohttp import web

from nodeagent import limits
from nodeagent.observe.log import open_log

_ACCEPT_REST_S = 0.1  # after accept failed for want of descriptors

_log = open_log()

Admit = Callable[[socket.socket], bool]


class Door:
    """A listening socket in front of an HTTP application. Owned by control."""

    def __init__(self, listener: socket.socket, app: web.Application, admit: Admit) -> None:
        self._listener = listener
        self._admit = admit
        self._open: set[asyncio.Transport] = set()
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=limits.API_CONNECTION_S)

    async def run(self) -> None:
        """Serves until it is cancelled."""
        self._listener.setblocking(False)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    sock, _ = await loop.sock_accept(self._listener)
                except OSError as error:
                    _log.warning("accept_failed", error=str(error))
                    await asyncio.sleep(_ACCEPT_REST_S)
                    continue
                await self._let_in(sock, loop)
        finally:
            self._listener.close()
            await self._runner.cleanup()

    async def _let_in(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        """Hands a connection to HTTP, with the whole of its life bounded; or closes it."""
        self._open = {transport for transport in self._open if not transport.is_closing()}
        if len(self._open) >= limits.API_CONNECTIONS or not self._admit(sock):
            sock.close()
            return
        sock.setblocking(False)
        assert self._runner.server is not None
        try:
            transport, _ = await loop.connect_accepted_socket(self._runner.server, sock)
        except OSError:
            sock.close()
            return
        self._open.add(transport)
        loop.call_later(limits.API_CONNECTION_S, transport.abort)
