"""A worker's data plane, put together: its listeners, its channels, its tunnels, and the order in which it stops."""

import asyncio
import contextlib
import math
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from nodeagent import limits
from nodeagent.config import Config
from nodeagent.errors import Drained
from nodeagent.proxy.call import Caller
from nodeagent.proxy.control import ControlChannel
from nodeagent.proxy.descriptors import used_up
from nodeagent.proxy.distrust import cut_distrusted
from nodeagent.proxy.ends import TcpEnd
from nodeagent.proxy.inbound import Inbound
from nodeagent.proxy.live import Live
from nodeagent.proxy.outbound import Outbound
from nodeagent.proxy.pool import TunnelPool
from nodeagent.proxy.supervisor import Listener, SupervisorChannel
from nodeagent.proxy.upstream import set_options
from nodeagent.proxy.welcome import Welcome
from nodeagent.wire.frames import WorkerStats

Serve = Callable[[TcpEnd], Coroutine[Any, Any, None]]
"""Carries one accepted connection."""


class Plane:
    """Made inside the worker's running loop, which owns it."""

    def __init__(self, tag: str, config: Config, supervisor: socket.socket, control: socket.socket) -> None:
        self._live = Live(tag, config)
        self._supervisor = SupervisorChannel(supervisor, self._live.units)
        self._control = ControlChannel(self._live, self._stats)
        self._pool = TunnelPool(self._live, self._control)
        self._inbound = Inbound(self._live, self._supervisor)
        self._welcome = Welcome(self._live, self._control, self._inbound.accept_stream)
        self._outbound = Outbound(self._live, self._supervisor, Caller(self._pool))
        self._servers: list[asyncio.Server] = []
        self._stop = asyncio.Event()
        self._defect: Exception | None = None
        self._cut_at = math.inf
        self._deadline: asyncio.Timeout | None = None
        self._supervisor.on_listen = lambda listeners: self._live.spawn(self._open(listeners))
        self._supervisor.on_unfit = self._give_up
        self._supervisor.on_drain = self._note_drain
        self._supervisor.on_lost = self._note_orphaned
        self._supervisor.on_control = self._control.attach
        self._control.on_keys = self._renew
        self._control.on_detached = self._supervisor.renew_control
        self._control.attach(control)

    async def listen(self, kind: Literal["outbound", "inbound", "tunnel"], sock: socket.socket) -> None:
        """Takes connections from `sock`."""
        if kind != "outbound":  # applications are dialled in the family in which their callers came
            self._supervisor.ask_sockets(6 if sock.family == socket.AF_INET6 else 4)
        if kind == "tunnel":
            self._welcome.listen(sock)
            return
        set_options(sock)  # inherited by what it accepts
        factory = _Accepted.factory(self._outbound.serve if kind == "outbound" else self._inbound.serve_plaintext, self._live)
        self._servers.append(await asyncio.get_running_loop().create_server(factory, sock=sock, backlog=limits.ACCEPT_BACKLOG))

    async def _open(self, listeners: list[Listener]) -> None:
        """Takes over a slot's sockets, and says so."""
        try:
            for kind, _, sock in listeners:
                await self.listen(kind, sock)
        except Exception as error:  # noqa: BLE001 - whatever it was: it is raised by `serve`
            self._give_up(error)
        else:
            self._supervisor.serving()

    def _give_up(self, error: Exception) -> None:
        """Connections would wait in queues of which this worker takes none: another shall."""
        self._defect = error
        self._stop.set()

    async def serve(self) -> None:
        """Serves until told to drain, then until the last connection has ended or was closed.

        Raises:
            Exception: the listeners could not be taken over; the process is to end.
        """
        self._live.spawn(self._announce())
        await self._stop.wait()
        if self._defect:
            raise self._defect
        await self._drain()
        await self._control.last_words()
        self._supervisor.drained()

    async def _announce(self) -> None:
        """Says when there is a snapshot to decide by, and when there are keys, too.

        When none comes, to refuse and say so is better than silence.
        """
        await _within(limits.SNAPSHOT_WAIT_S, self._live.has_snapshot)
        self._supervisor.ready(informed=False)
        await self._live.has_snapshot.wait()
        await _within(limits.SVID_WAIT_S, self._live.has_keys)
        self._supervisor.ready(informed=True)

    def _note_drain(self, seconds: int) -> None:
        """seconds: until what is left is closed, as far as nobody said less before; 0: that is not said."""
        if seconds:
            self._cut_at = min(self._cut_at, asyncio.get_running_loop().time() + seconds)
        if self._deadline and not self._deadline.expired():
            self._deadline.reschedule(self._cut_at)
        self._stop.set()

    def _note_orphaned(self) -> None:
        """As after a reload, and the next supervisor is told when that time is over."""
        self._note_drain(math.ceil(self._live.config.host.drain_max_s))
        self._supervisor.orphaned(math.ceil(self._cut_at))

    async def _drain(self) -> None:
        """Listeners first, so that nothing new waits here; then tunnels take no more; then the open ones end."""
        self._live.http.drain()
        for server in self._servers:
            server.close()
        self._welcome.close()
        for tunnel in list(self._live.tunnels):
            tunnel.retire()
        await asyncio.sleep(limits.ACCEPTED_S)
        await self._until_empty()
        await self._farewell()

    async def _until_empty(self) -> None:
        try:
            async with asyncio.timeout_at(self._cut_at) as self._deadline:
                while self._live.relays or self._welcome.is_busy:
                    await self._live.is_empty.wait()
                    await self._welcome.until_idle()
        except TimeoutError:
            await self._cut()
        finally:
            self._deadline = None  # what is heard now changes nothing

    async def _cut(self) -> None:
        """Closes what is left, evenly over CUT_SPREAD_S."""
        relays = list(self._live.relays.values())
        why = Drained("this worker was replaced, and host.drain_max_s is over; the client may connect again")
        slices = min(len(relays), math.ceil(limits.CUT_SPREAD_S / limits.CUT_TICK_S))
        for start in range(slices):
            for relay in relays[start::slices]:
                if not relay.is_over:
                    relay.end_by(why)
            await asyncio.sleep(limits.CUT_SPREAD_S / slices)

    async def _farewell(self) -> None:
        """Lets tunnels deliver what their streams still hold, for as long as any of it moves."""
        held = -1
        while self._held() != held:
            held = self._held()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.FAREWELL_S):
                    await self._live.is_quiet.wait()
                    return

    def _held(self) -> int:
        """Bytes that streams have queued for peers."""
        return sum(stream.queued for tunnel in self._live.tunnels for stream in tunnel.session.streams.values())

    def _renew(self) -> None:
        """New keys: tunnels of an older certificate finish what they carry, and those that rest on nothing are cut."""
        self._live.spawn(cut_distrusted(self._live))
        self._pool.retire_stale()
        self._welcome.retire_stale()

    def _stats(self, lag_s: float) -> WorkerStats:
        live = self._live
        sent, received = live.traffic()
        tunnels = [tunnel.row() for tunnel in live.tunnels]
        return WorkerStats(
            os.getpid(), live.generation, len(live.relays), dict(live.opened), sent, received, tunnels, lag_s, live.budget.used,
            live.held.passed(), live.tag, used_up(), live.http.requests.take(),
        )  # fmt: skip


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Returns when the event is set, or the time is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class _Accepted(TcpEnd):
    """A connection that came to a listener: serves itself."""

    def __init__(self, serve: Serve, live: Live) -> None:
        super().__init__()
        self._serve = serve
        self._live = live

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: accepted."""
        super().connection_made(transport)
        self._live.spawn(self._serve(self))

    @classmethod
    def factory(cls, serve: Serve, live: Live) -> Callable[[], "_Accepted"]:
        """What a server makes for each connection."""
        return lambda: cls(serve, live)
