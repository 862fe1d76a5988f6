"""The two ends of a relayed connection: a TCP transport towards an application, or a stream in a tunnel.

Each end knows its peer and passes bytes, ends and resets straight on to it; the relay they belong to hears only how an end
was closed. Back-pressure: an end that cannot deliver asks its peer to pause.
"""

import asyncio
import functools
import socket
import struct
from collections.abc import Callable
from typing import Any

from nodeagent import limits
from nodeagent.errors import AgentError
from nodeagent.proxy.end import End, Watcher
from nodeagent.wire import connect
from nodeagent.wire.stream import CANCEL, CONNECT_ERROR, LOST, NO_ERROR, REFUSED_STREAM, Headers, Stream

LINGER_RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: close with a reset. Source: socket(7)."""
_LINGER_END = struct.pack("ii", 0, 0)
"""For SO_LINGER: close with a FIN, and deliver what is queued."""
_CLOSED = 7  # Linux, include/net/tcp_states.h: TCP_CLOSE
_ACKED = struct.Struct("=Q")  # Linux, include/uapi/linux/tcp.h: tcp_info.tcpi_bytes_acked
_ACKED_AT, _ACKED_END = 120, 128


class TcpEnd(asyncio.Protocol):
    """An application's end: a TCP transport. Reading starts when it is linked to its peer."""

    def __init__(self) -> None:
        self.peer: End | None = None
        self.relay: Watcher | None = None
        self.received = 0
        self.transport: Any = None
        self.on_closed: Callable[[], None] = _nothing
        self.is_closed = False
        self._is_started = False
        self._early: list[bytes] = []
        self._has_eof = False
        self._has_finished = False
        self._is_paused = False
        self._was_cut = False
        self._linger: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None

    @property
    def was_lost(self) -> bool:
        """A TCP connection is in no tunnel."""
        return False

    @property
    def sock(self) -> Any:
        """The socket, for options and addresses."""
        return self.transport.get_extra_info("socket")

    @property
    def has_ended(self) -> bool:
        """Whether the application has said its FIN."""
        return self._has_eof

    def taken(self) -> int:
        """Bytes that the application's kernel has acknowledged."""
        taken: int = _ACKED.unpack_from(self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED_END), _ACKED_AT)[0]
        return taken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the transport is there; nothing is passed on before both ends are."""
        self.transport = transport
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """asyncio: payload from the application. uvloop reads once although it was asked to pause."""
        self.received += len(data)
        if self._is_started and self.peer:
            self.peer.send(data)
        else:
            self._early.append(data)
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """asyncio: the application will send no more; the other direction goes on."""
        self._has_eof = True
        if self._is_started and self.peer:
            self.peer.finish()
        self._close_if_done()
        self._watch_for_reset()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: closed by either side, or reset by the application."""
        self.is_closed = True
        self._has_eof |= isinstance(exc, BrokenPipeError)  # the kernel's word for a reset that came after a FIN
        self.on_closed()
        for timer in (self._linger, self._look):
            if timer:
                timer.cancel()
        if self.peer:
            self.peer.resume()  # what it holds for us will not be delivered: its window goes back
        is_clean = exc is None and self._has_eof and self._has_finished and not self._was_cut
        if is_clean:  # all that was written is the kernel's now, and the descriptor is closed after this
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_END)
        if self.relay:
            self.relay.end_closed(self, "" if is_clean else f"connection reset ({exc or 'aborted'})")

    def pause_writing(self) -> None:
        """asyncio: the application reads too slowly."""
        if self.peer:
            self.peer.pause()

    def resume_writing(self) -> None:
        """asyncio: the application caught up."""
        if self.peer:
            self.peer.resume()

    def start(self) -> None:
        """Reads on, and passes on what came early: the peer may have enough already and pause us again."""
        self._is_started = True
        self.resume()
        early, self._early = self._early, []
        if self.peer:
            for data in early:
                self.peer.send(data)
            if self._has_eof:
                self.peer.finish()

    def refuse(self, error: AgentError) -> None:
        """TCP has no words: the application sees a reset."""
        del error
        self.reset()

    def send(self, data: bytes) -> None:
        """To the application."""
        if not self.is_closed:
            self.transport.write(data)

    def finish(self) -> None:
        """FIN to the application, after what was written."""
        if self.is_closed or self._has_finished:
            return
        self._has_finished = True
        self.transport.write_eof()
        self._close_if_done()

    def reset(self) -> None:
        """RST to the application."""
        if not self.is_closed:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            self.transport.abort()

    def pause(self) -> None:
        """The peer cannot deliver: stop reading from the application."""
        if self.is_closed:
            return
        self._is_paused = True
        self.transport.pause_reading()
        self._watch_for_reset()

    def resume(self) -> None:
        """Read from the application."""
        self._is_paused = False
        if not self.is_closed:
            self.transport.resume_reading()

    def _close_if_done(self) -> None:
        """Both FINs are exchanged or queued: close, and cut a peer that never reads the rest."""
        if self._has_eof and self._has_finished and not self._linger:
            self.transport.close()
            self._wait_for_delivery(before=-1)

    def _wait_for_delivery(self, *, before: int) -> None:
        """A slow reader gets all the time it needs; one that took nothing for LINGER_S is cut."""
        taken = self.taken()
        if taken > before:
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(limits.LINGER_S, functools.partial(self._wait_for_delivery, before=taken))
        else:
            self._was_cut = True
            self.reset()

    def _watch_for_reset(self) -> None:
        """While reading is paused, and after the application's FIN, nobody would tell us of a reset."""
        if not self._look:
            self._look = asyncio.get_running_loop().call_later(limits.RESET_LOOK_S, self._look_for_reset)

    def _look_for_reset(self) -> None:
        self._look = None
        if self.is_closed or not (self._is_paused or self._has_eof):
            return
        if self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSED:
            self.transport.abort()
        else:
            self._watch_for_reset()


def _never() -> bool:
    """Nobody knows of a tunnel."""
    return False


def _nothing() -> None:
    """Nobody waits for the end of this connection."""


class StreamEnd:
    """A tunnel's end: one CONNECT stream. Payload that comes before it is linked is kept, bounded by its window."""

    def __init__(self) -> None:
        self.peer: End | None = None
        self.relay: Watcher | None = None
        self.received = 0
        self.stream: Stream | None = None
        self.head: asyncio.Future[Headers] = asyncio.get_running_loop().create_future()
        self.reset_code = NO_ERROR
        self.is_stale: Callable[[], bool] = _never
        """Whether its tunnel takes no new streams any more: what may begin anew is to take another."""
        self._early: list[bytes] = []
        self._has_eof = False
        self._has_finished = False
        self.is_closed = False
        self._is_paused = False
        self._is_full = False
        self._unpaid = 0
        self._said = 0

    @property
    def was_lost(self) -> bool:
        """The whole session went away."""
        return self.reset_code == LOST

    def taken(self) -> int:
        """Bytes that went out: the far agent had room for them."""
        return self._said - (self.stream.queued if self.stream else 0)

    def start(self) -> None:
        """Passes on what came before the peer was there."""
        early, self._early = self._early, []
        for data in early:
            self._deliver(data)
        if self._has_eof and self.peer:
            self.peer.finish()

    def refuse(self, error: AgentError) -> None:
        """Answers the CONNECT with HBONE's status for such a refusal."""
        if not self.is_closed and self.stream:
            self.is_closed = True
            self.stream.respond(connect.refusal_headers(error), end=True)
            held = sum(map(len, self._early))
            self._early.clear()
            if held:
                self.stream.consume(held)

    def condemn(self, error: AgentError) -> None:
        """The tunnel around it is about to be cut for this reason: the far agent hears it, if it still listens."""
        if self.relay:
            self.relay.end_by(error)

    # --- told by the session ---------------------------------------------------------------------------------------

    def on_head(self, headers: Headers) -> None:
        """The peer agent answered the CONNECT."""
        if not self.head.done():
            self.head.set_result(headers)

    def on_data(self, data: bytes) -> None:
        """Payload from the tunnel."""
        self.received += len(data)
        if self.is_closed and self.stream:
            self.stream.consume(len(data))  # refused: whatever still comes is for nobody
        elif self.peer:
            self._deliver(data)
        else:
            self._early.append(data)

    def on_end(self) -> None:
        """END_STREAM: the far application will send no more."""
        self._has_eof = True
        if self.peer:
            self.peer.finish()
        self._close_if_done()

    def on_reset(self, code: int) -> None:
        """RST_STREAM from the peer, or the tunnel is lost."""
        self.reset_code = code
        self.is_closed = True
        error = connect.read_reset(code)
        why = "the tunnel was lost" if code == LOST else str(error or f"stream reset by the peer (HTTP/2 code {code})")
        if not self.head.done():
            self.head.set_exception(ConnectionResetError(why))
            self.head.exception()  # whoever waits sees it; if nobody does any more, nothing is left to say
        if self.relay and error:
            self.relay.end_by(error)
        elif self.relay:
            self.relay.end_closed(self, why, lost=code == LOST)

    def on_drained(self) -> None:
        """The tunnel took what was queued."""
        if self.peer and self._is_full:
            self._is_full = False
            self.peer.resume()

    # --- asked by the peer end and the relay -------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Into the tunnel."""
        stream = self.stream
        if self.is_closed or not stream:
            return
        self._said += len(data)
        stream.write(data)
        if stream.is_full and not self._is_full and self.peer:
            self._is_full = True
            self.peer.pause()

    def finish(self) -> None:
        """END_STREAM after what was sent."""
        if not self._has_finished and self.stream:
            self._has_finished = True
            self.stream.write_eof()
            self._close_if_done()

    def reset(self) -> None:
        """RST_STREAM: the far application sees a reset, and the far agent why, where an agent ended it."""
        if not self.is_closed and self.stream:
            self.is_closed = True
            code = connect.RESET_CODES.get(self.relay.reason) if self.relay else None
            self.stream.reset(code or (CONNECT_ERROR if self._has_finished else CANCEL))
            if self.relay:
                self.relay.end_closed(self, "reset")

    def give_back(self) -> None:
        """RST_STREAM: nothing was done about what came last, and another stream may be tried. Source: RFC 9113, section 8.7."""
        if not self.is_closed and self.stream:
            self.is_closed = True
            self.stream.reset(REFUSED_STREAM)

    def pause(self) -> None:
        """The peer cannot deliver: stop giving window back."""
        self._is_paused = True

    def resume(self) -> None:
        """The peer caught up: its window goes back to the far end."""
        self._is_paused = False
        self._pay()

    def _deliver(self, data: bytes) -> None:
        if self.peer:
            self.peer.send(data)
        self._unpaid += len(data)
        if not self._is_paused:
            self._pay()

    def _pay(self) -> None:
        unpaid, self._unpaid = self._unpaid, 0
        if unpaid and self.stream:
            self.stream.consume(unpaid)

    def _close_if_done(self) -> None:
        if self._has_eof and self._has_finished and not self.is_closed:
            self.is_closed = True
            if self.relay:
                self.relay.end_closed(self, "")
