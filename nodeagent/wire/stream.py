"""One stream of an HTTP/2 session, as its relay sees it: a queue, a window, an end. No I/O."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from nodeagent import limits

Headers = list[tuple[bytes, bytes]]

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL, CONNECT_ERROR = 0, 1, 2, 7, 8, 10
ENHANCE_YOUR_CALM = 11
LOST = -1
"""The code that handlers are given when the whole session went away."""


class Budget:
    """Bytes that all streams of a worker hold together. Owned by the worker."""

    def __init__(self, limit: int = limits.WORKER_BUFFER_BYTES) -> None:
        self.used = 0
        self.limit = limit
        self.on_spent: Callable[[], None] = _nothing
        """Called with each piece that is held beyond the limit: some of what is held must go, soon."""

    @property
    def is_spent(self) -> bool:
        """Whether new streams must be refused."""
        return self.used >= self.limit

    def hold(self, size: int) -> None:
        """So many more bytes are held."""
        self.used += size
        if self.used > self.limit:
            self.on_spent()


def _nothing() -> None:
    """Nobody waits for a budget to be spent."""


class StreamHandler(Protocol):
    """What the owner of a stream is told. After `on_reset` or after both ends have ended, nothing more comes."""

    def on_head(self, headers: Headers) -> None:
        """The peer answered; for streams that this side opened."""

    def on_data(self, data: bytes) -> None:
        """Payload came; `Stream.consume` gives its window back when it has been passed on."""

    def on_end(self) -> None:
        """The peer will send no more."""

    def on_reset(self, code: int) -> None:
        """The stream is gone: an HTTP/2 error code, or LOST."""

    def on_drained(self) -> None:
        """What was queued has gone out far enough: go on writing."""


class StreamOwner(Protocol):
    """What a stream asks of its session."""

    def respond(self, stream: "Stream", headers: Headers, *, end: bool) -> None:
        """Sends an answer's head."""

    def wrote(self, stream: "Stream", size: int) -> None:
        """Payload was queued, or the end."""

    def reset(self, stream: "Stream", code: int) -> None:
        """Ends a stream at our wish."""

    def consumed(self, stream: "Stream", size: int) -> None:
        """Window goes back to the peer."""


class Stream:
    """One stream of a session, seen by whoever relays it."""

    __slots__ = ("_ending", "_queue", "_session", "_taken", "handler", "has_ended", "id", "is_closed", "queued", "unread")

    def __init__(self, session: StreamOwner, stream_id: int) -> None:
        self.id = stream_id
        self.handler: StreamHandler | None = None
        self.queued = 0
        self.unread = 0
        self.is_closed = False
        self.has_ended = False
        self._session = session
        self._queue: deque[bytes] = deque()
        self._taken = 0  # bytes of the first in the queue that were given away: cutting it each time would copy the rest
        self._ending = False

    @property
    def is_full(self) -> bool:
        """Whether the writer should pause until `on_drained`."""
        return self.queued > limits.STREAM_QUEUE_BYTES

    @property
    def held(self) -> int:
        """Its bytes of the budget."""
        return self.queued + self.unread

    def respond(self, headers: Headers, *, end: bool = False) -> None:
        """Sends the answer's head; for streams that the peer opened."""
        if not self.is_closed:
            self._ending = self._ending or end
            self._session.respond(self, headers, end=end)

    def write(self, data: bytes) -> None:
        """Queues payload. Never blocks: look at `is_full`."""
        if self.is_closed or self._ending:
            return
        self._queue.append(data)
        self.queued += len(data)
        self._session.wrote(self, len(data))

    def write_eof(self) -> None:
        """Ends this direction after what is queued."""
        if not self.is_closed and not self._ending:
            self._ending = True
            self._session.wrote(self, 0)

    def reset(self, code: int = CANCEL) -> None:
        """Ends both directions now; what is queued is dropped, and the handler is not told."""
        if not self.is_closed:
            self._session.reset(self, code)

    def consume(self, size: int) -> None:
        """Gives `size` bytes of window back to the peer: they have been passed on."""
        if not self.is_closed:
            self.unread -= size
            self._session.consumed(self, size)

    def end(self) -> None:
        """The peer will send no more: the handler is told, but for a stream that is closed."""
        self.has_ended = True
        if self.handler and not self.is_closed:
            self.handler.on_end()

    def next_chunk(self, size: int) -> bytes:
        """Takes at most `size` bytes off the queue."""
        first, start = self._queue[0], self._taken
        chunk = first[start : start + size]
        if start + size < len(first):
            self._taken = start + size
        else:
            self._queue.popleft()
            self._taken = 0
            while self._queue and len(chunk) + len(self._queue[0]) <= size:
                chunk += self._queue.popleft()
        self.queued -= len(chunk)
        return chunk

    @property
    def is_ending(self) -> bool:
        """Whether everything is queued that ever will be, and all of it was taken."""
        return self._ending and not self._queue

    def close(self) -> int:
        """Marks it gone and drops the queue; the number of bytes that were held."""
        held = self.held
        self.is_closed, self.queued, self.unread, self._taken = True, 0, 0, 0
        self._queue.clear()
        return held
