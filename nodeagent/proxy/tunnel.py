"""A tunnel: one TLS connection to a peer agent with its HTTP/2 session, either side.

Bytes are written once per loop turn under load, at once when nothing else happens. A silent peer is asked whether it
lives and given up if it does not answer.
"""

import asyncio
import fcntl
import math
import os
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any

from certs.standing import Standing
from nodeagent import limits
from nodeagent.errors import AgentError
from nodeagent.model.address import Address
from nodeagent.wire.frames import TunnelRow
from nodeagent.wire.http2 import Session
from nodeagent.wire.stream import Budget, Headers, Stream, StreamHandler

OnRequest = Callable[["Tunnel", Stream, Headers], StreamHandler]
Clock = Callable[[], float]
"""Unix seconds."""
_INT = struct.Struct("=i")


class Tunnel(asyncio.Protocol):
    """Owned by the pool that opened it or by the welcome that accepted it."""

    def __init__(self, budget: Budget, now: Clock, on_request: OnRequest | None) -> None:
        self.transport: Any = None
        self.source = self.destination = self.peer = self.serial = ""
        self.address = Address("", 0)
        self.on_lost: list[Callable[[Tunnel], None]] = []
        self.on_connected: Callable[[Tunnel], None] = lambda _: None
        self.on_defect: Callable[[Exception], None] = lambda _: None
        self.refusal: AgentError | None = None
        self.expires_at = math.inf
        self.standings: tuple[Standing, ...] = ()
        """What its two certificates' credit rests on: our own, then the peer's."""
        self.opened_at = now()
        self._now = now
        self.is_client = on_request is None
        self._on_request = on_request
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._is_flush_due = False
        self._is_paused = False
        self._heard_at = self._used_at = self._loop.time()
        self._asked_at = float("-inf")
        self._pings = 0
        self._stays_until = float("-inf")
        self._pulse: asyncio.TimerHandle | None = None
        self.session = Session(self, budget, is_client=self.is_client)

    @property
    def has_room(self) -> bool:
        """Whether another stream fits."""
        return bool(self.transport) and self.session.has_room and not self.has_expired

    @property
    def is_ending(self) -> bool:
        """Whether it takes no new streams any more, however much room there will be."""
        return self.session.is_closing or bool(self.session.failure) or self.has_expired

    @property
    def has_expired(self) -> bool:
        """Whether a certificate that opened it has ended: it may finish what it carries and take nothing new.

        Clocks differ: whoever opened it stops a little early, and whoever accepted it is a little patient.
        """
        leeway_s = min(limits.CLOCK_SKEW_S, max(self.expires_at - self.opened_at, 0.0) * limits.CLOCK_SKEW_SHARE)
        return self._now() >= self.expires_at + (-leeway_s if self.is_client else leeway_s)

    def row(self) -> TunnelRow:
        """For `status`."""
        side = "client" if self.is_client else "server"
        return TunnelRow(self.source, self.destination, self.peer, side, len(self.session.streams), self.opened_at)

    def retire(self) -> None:
        """No new streams; closes when the open ones have ended.

        Whoever accepted it waits a moment for streams that left the peer before it was told, and refuses those that come later:
        nobody may choose a worker that is leaving.
        """
        if not self.is_client and not self.session.is_closing:
            self._stays_until = self._loop.time() + limits.RETIRE_S
            self._loop.call_later(limits.RETIRE_S, self._end_stay)
        self.session.shut_down()
        self._flush()

    def _end_stay(self) -> None:
        self.session.takes_more = False
        self._flush()

    def lose(self, why: str) -> None:
        """Gives the peer up: every stream is told, the transport is cut."""
        self.session.lose(why)
        self._cut()

    def dismiss(self, why: str) -> None:
        """Gives the peer up, but sends it first what it was told last; one that takes nothing is cut."""
        self._flush()
        self.session.lose(why)
        self._part()

    def _part(self) -> None:
        """Closes after what was sent, unless the peer takes nothing."""
        if self._is_paused:
            self._cut()
        elif self.transport:
            self.transport.close()

    def _cut(self) -> None:
        """Reading stops first: the TLS library would go on for the rest of its turn, into a buffer that nobody empties."""
        if self.transport:
            self.transport.pause_reading()
            self.transport.abort()

    # --- told by asyncio ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up. Who the peer is, is found out before its first byte is read."""
        self.transport = transport
        try:
            self.on_connected(self)
        except AgentError as error:
            self._refuse(error)
            return
        except Exception as error:  # noqa: BLE001 - the TLS library would go on with a peer that nobody has checked
            self._refuse(AgentError(f"a defect of this agent: {type(error).__name__}: {error}"))
            self.on_defect(error)
            return
        self._pulse = self._loop.call_later(limits.PING_S, self._check)
        self.on_output()

    def _refuse(self, error: AgentError) -> None:
        self.refusal = error
        self.lose(str(error))

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        self._heard_at = self._loop.time()
        if self.session.streams:  # answers to our own pings are no use
            self._used_at = self._heard_at
        self.session.receive(data)
        self._flush()
        self._look_for_reset()

    def _look_for_reset(self) -> None:
        """Loses a peer whose reset came together with data.

        uvloop says once that a socket has failed, and the TLS library reads once then: it gets the data, and never the error.
        """
        if not self.transport or self.transport.is_closing():
            return
        error = self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.lose(f"connection to the peer lost ({os.strerror(error)})")

    def eof_received(self) -> bool:
        """The peer closed; a session has no half."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by either side or broken."""
        if self._pulse:
            self._pulse.cancel()
        self.transport = None
        self.session.lose(self.session.failure or f"connection to the peer lost ({exc or 'closed'})")
        for tell in self.on_lost:
            tell(self)

    def pause_writing(self) -> None:
        """The network is slower than we are."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The network caught up."""
        self._is_paused = False
        self._flush()

    # --- told by the session -----------------------------------------------------------------------------------------

    def on_request(self, stream: Stream, headers: Headers) -> StreamHandler:
        """The peer opened a stream. A client's session allows none, so the library never gets here."""
        assert self._on_request is not None
        return self._on_request(self, stream, headers)

    def on_output(self) -> None:
        """Something waits to be sent: once per loop turn."""
        if not self._is_flush_due and self.transport and not self._is_paused:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if not self.transport or (self._is_paused and not self.session.failure):
            return
        data = self.session.data_to_send()
        if data:
            self.transport.write(data)
        if self.session.failure:
            self._give_up()
        elif self.session.has_output:
            self.on_output()
        elif self.session.is_closing and not self.session.streams and self._loop.time() >= self._stays_until:
            self.transport.close()

    def _give_up(self) -> None:
        """The session has failed: its farewell is on the way, unless the peer takes nothing."""
        self.session.lose(self.session.failure)
        self._part()

    # --- liveness ----------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Every PING_S: asks a silent peer, gives up one that did not answer, closes what nobody has used."""
        now = self._loop.time()
        self._pulse = self._loop.call_later(limits.PING_S, self._check)
        silent_s = now - self._heard_at
        if silent_s > limits.PING_TIMEOUT_S and self._pings:
            self.lose(f"the peer has been silent for {silent_s:.0f} s")
        elif self.session.streams:
            self._used_at = now
            self._ask(silent_s)
        elif self.has_expired or now - self._used_at > self._idle_s:
            self.retire()
        else:
            self._ask(silent_s)

    def ask(self) -> None:
        """Asks a silent peer whether it lives, for calls that wait for an answer: once until it says something."""
        if self._asked_at <= self._heard_at <= self._loop.time() - limits.CALL_LOOK_S:
            self._asked_at = self._loop.time()
            self.session.ping()

    @property
    def is_mute(self) -> bool:
        """Whether the peer has said nothing for CALL_SILENT_S since it was asked, although the network is there."""
        if not self._heard_at < self._asked_at <= self._loop.time() - limits.CALL_SILENT_S:
            return False
        is_open = self.transport and not self.transport.is_closing()
        return bool(is_open and _is_still(self.transport.get_extra_info("socket")))

    @property
    def _idle_s(self) -> float:
        """Whoever opened it closes it; the other side does so for a peer that does not."""
        return limits.SESSION_IDLE_S * (1 if self.is_client else 2)

    def _ask(self, silent_s: float) -> None:
        if silent_s >= limits.PING_S / 2:
            self._pings += 1
            self.session.ping()
        else:
            self._pings = 0


def _is_still(sock: socket.socket) -> bool:
    """Whether the peer's kernel has acknowledged everything, and ours has got nothing: what waits here unread is our own delay.

    Source: Linux, struct tcp_info: tcpi_unacked, tcpi_last_data_recv (ms).
    """
    unacked, received_ms = struct.unpack_from("=24xI24xI", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56))
    return bool(unacked == 0 and received_ms >= limits.CALL_SILENT_S * 1000 and not unread(sock))


def unread(sock: socket.socket) -> int:
    """Bytes that the kernel has for us; 0 for a socket that is closed. Source: ioctl_tty(2), FIONREAD."""
    try:
        (size,) = _INT.unpack(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(_INT.size)))
    except (OSError, ValueError):
        return 0
    return int(size)
