"""Accepts HTTP connections under three limits: who, how many, and how long. One slow caller blocks nobody."""

import asyncio
import logging
import socket
from collections.abc import Callable
from http import HTTPStatus

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from nodeagent import limits
from nodeagent.control.report import ErrorAnswer
from nodeagent.control.rights import Handler
from nodeagent.observe.flood import Flood
from nodeagent.observe.log import open_log

_ACCEPT_REST_S = 0.1  # after accept failed for want of descriptors

_log = open_log()

Doubt = Callable[[socket.socket], str]
"""Why a caller is not let in; empty: it is."""


class Door:
    """A listening socket in front of an HTTP application. Owned by control.

    When all places are taken, the oldest connection that asks nothing gives its own to the newest: whoever holds
    connections open, or does not read, keeps nobody out.
    """

    def __init__(self, listener: socket.socket, app: web.Application, doubt: Doubt, name: str) -> None:
        self._listener = listener
        self._doubt = doubt
        self._name = name
        self._flood = Flood()
        self._open: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        self._asking: set[asyncio.BaseTransport | None] = set()
        app.middlewares.insert(0, self._note_asking)
        self._runner = web.AppRunner(app)
        self._logger = _one_line(self._complain)

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
        try:
            if why := self._doubt(sock):
                self._complain("caller_refused", error=why)
            elif self._make_room():
                sock.setblocking(False)
                transport, _ = await loop.connect_accepted_socket(lambda: self._protocol(loop), sock)
                self._open[transport] = loop.call_later(limits.API_CONNECTION_S, transport.abort)
                return
        except OSError as error:
            self._complain("caller_lost", error=str(error))
        sock.close()

    def _protocol(self, loop: asyncio.AbstractEventLoop) -> web.RequestHandler:
        assert self._runner.server is not None
        return _Protocol(
            self._runner.server, loop=loop, logger=self._logger,
            access_log=None,  # type: ignore[arg-type] # none: what aiohttp's runner passes on, too
            keepalive_timeout=limits.API_CONNECTION_S, lingering_time=limits.API_LINGER_S,
        )  # fmt: skip

    def _make_room(self) -> bool:
        """Whether there is a place, be it that of the oldest connection that asks nothing."""
        for transport in [each for each in self._open if each.is_closing()]:
            self._forget(transport)
        if len(self._open) < limits.API_CONNECTIONS:
            return True
        oldest = next((each for each in self._open if each not in self._asking), None)
        self._complain("api_crowded", connections=len(self._open))
        if oldest is None:
            return False
        oldest.abort()
        self._forget(oldest)
        return True

    def _forget(self, transport: asyncio.Transport) -> None:
        """Its timer would keep it in memory for the rest of its time."""
        self._open.pop(transport).cancel()

    @web.middleware
    async def _note_asking(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        self._asking.add(transport)
        try:
            return await handler(request)
        finally:
            self._asking.discard(transport)

    def _complain(self, event: str, **facts: object) -> None:
        verdict = self._flood.judge(self._name, asyncio.get_running_loop().time())
        if verdict != "none":
            _log.warning(event, door=self._name, **facts)
        if verdict == "last":
            _log.warning("refusals_unlogged", source=self._name, until="the minute is over")


class _Protocol(web.RequestHandler):
    """HTTP as aiohttp speaks it, but for what it says of a request that is none: it would send the whole of it back."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:  # fmt: skip
        super().handle_error(request, status, exc, message)  # the line in the log
        why = "not HTTP, or a line or header that is too long" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "see the agent's log"
        answer = ErrorAnswer(error=f"{status} {HTTPStatus(status).phrase}: {why}")
        response = web.Response(status=status, body=msgspec.json.encode(answer), content_type="application/json")
        response.force_close()
        return response


def _one_line(complain: Callable[..., None]) -> logging.Logger:
    """A logger for aiohttp, which would print a traceback for each request that is none.

    Neither the request nor what aiohttp says of it is in the line: both have the caller's bytes.
    """

    class OneLine(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            if isinstance(error, HttpProcessingError):
                complain("request_refused", error=type(error).__name__)
            elif record.levelno >= logging.WARNING:
                _log.error("admin_request_failed", error=record.getMessage(), exc_info=error)

    logger = logging.Logger("door")  # noqa: LOG001 - of this door alone, and in no hierarchy that prints
    logger.addHandler(OneLine())
    return logger
