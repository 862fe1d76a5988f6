"""HTTP/2 between agents: streams, fairness and back-pressure over libnghttp2, without I/O.

The library keeps one queue for a whole connection, checks no window for us and may stop speaking after an attack. So a
Session keeps a queue per stream, feeds the library a little of each in turn, counts streams and bytes itself, and writes
its own farewell where the library cannot.
"""

import contextlib
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import ngh2

from nodeagent import limits
from nodeagent.wire.peer_text import printable
from nodeagent.wire.stream import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    LOST,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Budget,
    Headers,
    Stream,
    StreamHandler,
)

_GOAWAY_HEAD = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00"


class SessionHandler(Protocol):
    """What the owner of a session is told."""

    def on_request(self, stream: Stream, headers: Headers) -> StreamHandler:
        """The peer opened a stream; the answer takes it from here. No headers: they were malformed."""

    def on_output(self) -> None:
        """There may be something to send: `data_to_send` soon."""


class Session:
    """One HTTP/2 connection to a peer. Owned by one worker; not for threads."""

    def __init__(self, handler: SessionHandler, budget: Budget, *, is_client: bool) -> None:
        self.streams: dict[int, Stream] = {}
        self.failure = ""
        self.is_broken = False
        """Whether it failed because one side broke HTTP/2."""
        self.is_closing = False
        self.takes_more = True
        """Whether streams that the peer opens are taken; else they are refused, and those that are open go on."""
        self.pongs = 0
        self._is_client = is_client
        self._handler = handler
        self._budget = budget
        self._ready: dict[int, Stream] = {}
        self._blocked: dict[int, Stream] = {}
        self._farewell = b""
        self._newest = 0
        role = ngh2.Role.CLIENT if is_client else ngh2.Role.SERVER
        self._connection = ngh2.Connection(role, ngh2.Configuration(auto_window_update=False))
        self._connection.initiate_connection({
            ngh2.Setting.INITIAL_WINDOW_SIZE: limits.STREAM_WINDOW_BYTES,
            ngh2.Setting.MAX_CONCURRENT_STREAMS: 0 if is_client else limits.STREAMS_PER_SESSION,
            ngh2.Setting.ENABLE_PUSH: 0,
        })  # fmt: skip
        self._connection.set_local_window_size(limits.SESSION_WINDOW_BYTES)

    @property
    def has_room(self) -> bool:
        """Whether another stream may be opened: the library would queue it silently beyond the peer's limit."""
        theirs = self._connection.remote_settings.get(3, limits.STREAMS_PER_SESSION)
        is_open = not (self.failure or self.is_closing) and self._connection.can_send_request
        return bool(is_open) and len(self.streams) < min(limits.STREAMS_PER_SESSION, theirs)

    @property
    def has_output(self) -> bool:
        """Whether `data_to_send` would give more now."""
        return bool(self._ready or self._farewell) or (not self.failure and self._connection.want_write)

    def open(self, headers: Headers, handler: StreamHandler) -> Stream:
        """A new stream to the peer. Ask `has_room` first."""
        stream = Stream(self, self._connection.send_request(headers))
        stream.handler = handler
        self.streams[stream.id] = stream
        self._handler.on_output()
        return stream

    def ping(self) -> None:
        """Asks the peer whether it lives; `pongs` counts the answers."""
        if not self.failure:
            with contextlib.suppress(ngh2.NGH2Error):  # it is ending, here as below: the event that says so is on its way
                self._connection.ping()
            self._handler.on_output()

    def shut_down(self) -> None:
        """No more streams are opened here, and the peer of a server is told; those that are open go on."""
        if not (self.failure or self.is_closing):
            self.is_closing = True
            if not self._is_client:
                with contextlib.suppress(ngh2.NGH2Error):
                    self._connection.send_shutdown_notice()
            self._handler.on_output()

    def receive(self, data: bytes) -> None:
        """Takes bytes from the peer and tells the handlers what they mean. Look at `failure` afterwards."""
        if self.failure:
            return
        try:
            self._connection.receive_data(data)
        except ngh2.NGH2Error as error:
            self._fail(ENHANCE_YOUR_CALM if isinstance(error, ngh2.DenialOfServiceError) else PROTOCOL_ERROR, str(error))
            return
        self._dispatch()

    def data_to_send(self) -> bytes:
        """What goes to the peer now: up to about FLUSH_BYTES, a little of each stream in turn."""
        if self.failure:
            farewell, self._farewell = self._farewell, b""
            return farewell
        parts, size = [], 0
        while size < limits.FLUSH_BYTES:
            self._feed()
            data = self._connection.data_to_send()
            if not data:
                self._set_blocked_aside()
                break
            parts.append(data)
            size += len(data)
        self._dispatch()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def lose(self, why: str) -> None:
        """The transport is gone: every handler is told."""
        self.failure = self.failure or why
        streams, self.streams = list(self.streams.values()), {}
        self._ready.clear()
        self._blocked.clear()
        for stream in streams:
            self._budget.used -= stream.close()
            if stream.handler:
                stream.handler.on_reset(LOST)

    # --- called by streams -----------------------------------------------------------------------------------------

    def respond(self, stream: Stream, headers: Headers, *, end: bool) -> None:
        """Sends an answer's head."""
        try:
            self._connection.send_response(stream.id, headers, end_stream=end)
        except ngh2.NGH2Error:  # the peer reset it in the bytes that are being read
            self._drop(stream)
        self._handler.on_output()

    def wrote(self, stream: Stream, size: int) -> None:
        """Payload was queued, or the end."""
        self._budget.hold(size)
        if stream.id not in self._blocked:
            self._ready[stream.id] = stream
            self._handler.on_output()

    def reset(self, stream: Stream, code: int) -> None:
        """Ends a stream at our wish."""
        self._forget(stream)
        if not self.failure:
            with contextlib.suppress(ngh2.NGH2Error):
                self._connection.reset_stream(stream.id, code)
            self._handler.on_output()

    def consumed(self, stream: Stream, size: int) -> None:
        """Window goes back to the peer, also for a stream that has gone: the connection's window needs it."""
        if not stream.is_closed:
            self._budget.used -= size
        self._acknowledge(stream.id, size)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _acknowledge(self, stream_id: int, size: int) -> None:
        if not self.failure and size:
            with contextlib.suppress(ngh2.NGH2Error):
                self._connection.acknowledge_received_data(size, stream_id)
            self._handler.on_output()

    def _forget(self, stream: Stream) -> None:
        """Drops what is held for a stream; unread bytes go back to the connection's window."""
        self.streams.pop(stream.id, None)
        self._ready.pop(stream.id, None)
        self._blocked.pop(stream.id, None)
        unread = stream.unread
        self._budget.used -= stream.close()
        self._acknowledge(stream.id, unread)

    def _drop(self, stream: Stream) -> None:
        """Forgets a stream that the library no longer knows, and tells its handler."""
        self._forget(stream)
        if stream.handler:
            stream.handler.on_reset(INTERNAL_ERROR)

    def _feed(self) -> None:
        """One round: at most FEED_BYTES of each ready stream, and only where the library holds nothing of it."""
        for stream in list(self._ready.values()):
            if self._connection.queued_body_size(stream.id):
                continue
            try:
                self._feed_stream(stream)
            except ngh2.NGH2Error:  # it ended inside the library; the event is on its way
                self._drop(stream)

    def _set_blocked_aside(self) -> None:
        """Nothing more goes out: what the library still holds waits for the peer's window, and so does its stream."""
        for stream in list(self._ready.values()):
            if self._connection.queued_body_size(stream.id):
                del self._ready[stream.id]
                self._blocked[stream.id] = stream

    def _feed_stream(self, stream: Stream) -> None:
        was_full = stream.is_full
        if stream.queued:
            chunk = stream.next_chunk(limits.FEED_BYTES)
            self._budget.used -= len(chunk)
            self._connection.send_data(stream.id, chunk, end_stream=stream.is_ending)
        elif stream.is_ending:
            self._connection.end_stream(stream.id)
        if not stream.queued:
            del self._ready[stream.id]
        if was_full and not stream.is_full and stream.handler:
            stream.handler.on_drained()

    def _dispatch(self) -> None:
        for event in self._connection.events():
            react = self._reactions.get(type(event))
            if react:
                react(self, event)
        if not self.failure and not self._connection.want_read and not self._connection.want_write:
            self._fail_quietly("the peer or the library ended the session")

    def _fail_quietly(self, why: str) -> None:
        self.failure = why
        self._handler.on_output()

    def _fail(self, code: int, why: str) -> None:
        """Ends the session with a GOAWAY of our own: after such errors the library speaks no more."""
        self.is_broken = True
        self._farewell = _GOAWAY_HEAD + self._newest.to_bytes(4, "big") + code.to_bytes(4, "big")
        self._fail_quietly(_sentence(code, why))

    def _on_request(self, event: ngh2.RequestReceived) -> None:
        stream = Stream(self, event.stream_id)
        self._newest = stream.id
        if not self.takes_more:
            self.reset(stream, REFUSED_STREAM)
            return
        self.streams[stream.id] = stream
        stream.handler = self._handler.on_request(stream, list(event.headers))
        if event.end_stream:
            stream.end()

    def _on_response(self, event: ngh2.ResponseReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream and stream.handler:
            stream.handler.on_head(list(event.headers))
            if event.end_stream:
                stream.end()

    def _on_data(self, event: ngh2.DataReceived) -> None:
        data = event.data
        stream = self.streams.get(event.stream_id)
        if not stream or not stream.handler:
            self._acknowledge(event.stream_id, len(data))
            return
        if data:
            stream.unread += len(data)
            self._budget.hold(len(data))
            stream.handler.on_data(data)
        if event.end_stream:
            stream.end()

    def _on_trailers(self, event: ngh2.TrailersReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream:
            stream.end()

    def _on_closed(self, event: ngh2.StreamClosed) -> None:
        """Both directions ended, or a reset, which may call itself no error; the handler of a clean end has heard all it needs."""
        stream = self.streams.get(event.stream_id)
        if not stream:
            self._look_for_malformed(event)
            return
        if event.error_code != NO_ERROR or not (stream.has_ended and stream.is_ending):
            self._forget(stream)
            if stream.handler:
                stream.handler.on_reset(event.error_code or CANCEL)
        elif not stream.unread:
            self._forget(stream)
        else:
            del self.streams[stream.id]

    def _look_for_malformed(self, event: ngh2.StreamClosed) -> None:
        """The library reset a stream because of its head: its owner hears of a request without one, and cannot answer it."""
        if not self._is_client and event.stream_id > self._newest and event.error_code == PROTOCOL_ERROR:
            self._newest = event.stream_id
            stream = Stream(self, event.stream_id)
            stream.handler = self._handler.on_request(stream, [])

    def _on_window(self, event: ngh2.WindowUpdated | ngh2.SettingsReceived) -> None:
        stream_id = getattr(event, "stream_id", 0)
        freed = [self._blocked.pop(stream_id, None)] if stream_id else list(self._blocked.values())
        if not stream_id:
            self._blocked.clear()
        self._ready.update((stream.id, stream) for stream in freed if stream)
        self._handler.on_output()

    def _on_goaway(self, event: ngh2.GoAwayReceived) -> None:
        del event
        self.is_closing = True

    def _on_pong(self, event: ngh2.PingAcknowledged) -> None:
        del event
        self.pongs += 1

    def _on_connection_closed(self, event: ngh2.ConnectionClosed) -> None:
        self.is_broken = event.error_code != NO_ERROR
        self._fail_quietly(_sentence(event.error_code, event.debug_data.decode("ascii", "replace")))

    _reactions: ClassVar[dict[type[ngh2.Event], Callable[["Session", Any], None]]] = {
        ngh2.DataReceived: _on_data,
        ngh2.RequestReceived: _on_request,
        ngh2.ResponseReceived: _on_response,
        ngh2.TrailersReceived: _on_trailers,
        ngh2.StreamClosed: _on_closed,
        ngh2.WindowUpdated: _on_window,
        ngh2.SettingsReceived: _on_window,
        ngh2.GoAwayReceived: _on_goaway,
        ngh2.PingAcknowledged: _on_pong,
        ngh2.ConnectionClosed: _on_connection_closed,
    }


def _sentence(code: int, detail: str) -> str:
    """Why a session ended, as the library or the peer says it."""
    name = next((f" {each.name}" for each in ngh2.ErrorCode if each == code), "")
    return f"HTTP/2 error {code}{name}" + (f": {printable(detail)}" if detail else "")
