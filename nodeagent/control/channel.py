"""Control's end of a stream socket to one of our own processes: frames in, frames out, both bounded."""

import asyncio
from collections.abc import Callable
from typing import cast

from nodeagent import limits
from nodeagent.errors import FrameError
from nodeagent.observe.log import open_log
from nodeagent.wire.frames import FrameReader, Message, encode_frame

_log = open_log()


class Channel(asyncio.Protocol):
    """One connection. Owned by whoever made it; it closes itself when the far end ends, babbles or does not read."""

    def __init__(
        self, on_message: Callable[[Message], None], on_closed: Callable[[str], None],
        backlog_bytes: int = limits.CHANNEL_BACKLOG_BYTES, frame_bytes: int = limits.FRAME_BYTES,
    ) -> None:  # fmt: skip
        self._on_message = on_message
        self._on_closed = on_closed
        self._backlog_bytes = backlog_bytes
        self._reader = FrameReader(frame_bytes)
        self._transport: asyncio.Transport | None = None
        self._why = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's: the socket is ours."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses of asyncio's

    def data_received(self, data: bytes) -> None:
        """asyncio's: a part of the stream."""
        try:
            for message in self._reader.feed(data):
                self._on_message(message)
        except FrameError as error:
            self.abort(str(error))
        except Exception:  # noqa: BLE001 - a message that we mishandle must not cost the worker its channel
            _log.error("message_failed", exc_info=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's: the end, whoever made it."""
        self._transport = None
        self._on_closed(self._why or (str(exc) if exc else "closed by the other end"))

    def send(self, message: Message) -> None:
        """Queues a message; a far end that has left too much unread is cut, since a hole in the stream would lie."""
        if self._transport is None or self._transport.is_closing():
            return
        waiting = self._transport.get_write_buffer_size()
        frame = encode_frame(message)
        if waiting and waiting + len(frame) > self._backlog_bytes:
            self.abort(f"it has not read {waiting} bytes")
        else:
            self._transport.write(frame)

    def abort(self, why: str) -> None:
        """Ends the connection at once."""
        self._why = self._why or why
        if self._transport is not None:
            self._transport.abort()
