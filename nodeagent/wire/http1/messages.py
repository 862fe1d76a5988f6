"""One message after the other out of a stream of bytes: what comes next, and what is held until it is asked for."""

from collections.abc import Callable
from typing import Protocol

from nodeagent.model.message import UNTIL_CLOSE, Headers
from nodeagent.wire.http1.events import INTERIM, SWITCHED, BadMessage, BodyReader
from nodeagent.wire.http1.grammar import complain, is_hopeless

_NO_TRAILERS: Headers = []


class Role(Protocol):
    """What differs between requests and answers."""

    is_request: bool
    goes_on: bool
    """Whether the stream does, behind the message whose head was told."""
    body: Callable[[int], BodyReader | None]
    """What reads the body after a head: Codec's."""
    tell: Callable[[bytes], None]
    """Who is told a piece of it."""

    def begin(self, raw: bytes) -> int:
        """Tells a complete head, and what follows it: a length, INTERIM or SWITCHED.

        Raises:
            BadMessage: the head is in doubt.
        """

    def end(self, trailers: Headers, *, is_more: bool) -> None:
        """Tells that the message is complete; whether bytes are here that came behind it.

        Raises:
            BadMessage: nothing may come behind it.
        """

    def bad(self, error: BadMessage) -> None:
        """Tells that nothing more will be understood."""

    def is_awaiting(self) -> bool:
        """Whether a message must come before the stream may end."""

    def may_begin(self) -> bool:
        """Whether a message may come now."""


class Messages:
    """The state of one stream, for whoever owns its connection. Each `_read_…` does one step, and is the state itself."""

    __slots__ = ("_at", "_body", "_data", "_is_over", "_is_running", "_may_be_empty", "_role", "_seen", "_step", "_tell")

    def __init__(self, role: Role) -> None:
        self._role = role
        self._tell = role.tell
        self._data, self._at = b"", 0
        """What came, and how much of it was understood."""
        self._seen = 0
        """Where in it to look for the end of a head: it is not before."""
        self._body: BodyReader | None = None
        self._may_be_empty = role.is_request
        """Whether an empty line may come: one before a request, from clients that end bodies so (RFC 9112, 2.2)."""
        self._is_over = self._is_running = False
        self._step: Callable[[], bool] = self._read_head

    def feed(self, data: bytes) -> None:
        """Parser's."""
        if self._at == len(self._data):
            self._data, self._at, self._seen = data, 0, 0
        else:
            self._seen = max(self._seen - self._at, 0)
            self._data, self._at = self._data[self._at :] + data, 0
        self._run()

    def proceed(self) -> None:
        """Parser's."""
        if self._step == self._hold:
            self._step = self._read_head if self._role.goes_on else self._ignore
            self._may_be_empty, self._seen = self._role.is_request, self._at
            if self._is_over or self._at < len(self._data):
                self._run()

    def eof(self) -> None:
        """Parser's."""
        self._is_over = True
        self._run()

    @property
    def is_idle(self) -> bool:
        """Parser's."""
        return self._step == self._read_head and self._at == len(self._data)

    @property
    def buffered(self) -> int:
        """Parser's."""
        return len(self._data) - self._at

    def take_rest(self) -> bytes:
        """Parser's."""
        rest, self._data, self._at = self._data[self._at :], b"", 0
        self._step = self._ignore
        return rest

    def _run(self) -> None:
        """Steps until one lacks bytes, or the owner's word. Owners may call back from what they are told."""
        if self._is_running:
            return
        self._is_running = True
        try:
            while self._step():
                pass
            if self._is_over:
                self._end_of_stream()
        except BadMessage as error:
            self._fail(error)
        finally:
            self._is_running = False

    def _read_head(self) -> bool:
        data, at = self._data, self._at
        if at == len(data):
            return False
        if not self._role.may_begin():
            raise BadMessage("an answer that nobody asked for")
        if self._may_be_empty and data[at] == 13:
            return self._skip_empty_line()
        end = data.find(b"\r\n\r\n", max(at, self._seen - 3)) + 4
        if end == 3:
            if is_hopeless(data, at, self._seen, is_request=self._role.is_request):
                raise complain(data[at:], is_request=self._role.is_request)
            self._seen = len(data)
            return False
        self._at = end
        length = self._role.begin(data[at:end])
        self._may_be_empty = False
        if length == INTERIM:
            self._seen = end
        elif length != SWITCHED:
            return self._begin_body(length)
        elif self._step == self._read_head:  # else the owner has taken the rest already
            self._step = self._hold_rest
        return True

    def _skip_empty_line(self) -> bool:
        if self.buffered == 1:
            return False
        if not self._data.startswith(b"\r\n", self._at):
            raise BadMessage("a carriage return without a line feed")
        self._at += 2
        self._seen = self._at
        self._may_be_empty = False
        return True

    def _begin_body(self, length: int) -> bool:
        self._body = self._role.body(length)
        if self._body is None:
            return self._end(_NO_TRAILERS)
        self._step = self._read_endless if length == UNTIL_CLOSE else self._read_body
        return True

    def _read_body(self) -> bool:
        """All of the body that is here is told at once: chunks of a byte are not told one by one."""
        pieces: list[bytes] = []
        assert self._body is not None
        try:
            self._at, trailers = self._body.read(self._data, self._at, pieces)
        finally:
            if pieces:
                self._tell(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return trailers is not None and self._end(trailers)

    def _read_endless(self) -> bool:
        """A body that ends with the stream: another state, as its end is no fault."""
        return self._read_body()

    def _end(self, trailers: Headers) -> bool:
        self._body, self._step = None, self._hold
        self._role.end(trailers, is_more=self._at < len(self._data))
        return True

    def _hold(self) -> bool:
        """Between messages, until the owner wants the next one."""
        if self._at < len(self._data) and not self._role.may_begin():
            raise BadMessage("an answer that nobody asked for")
        return False

    def _hold_rest(self) -> bool:
        """What comes is not of this protocol."""
        return False

    def _ignore(self) -> bool:
        """Nothing will be understood any more."""
        self._data, self._at = b"", 0
        return False

    def _end_of_stream(self) -> None:
        if self._step == self._read_endless:
            self._end(_NO_TRAILERS)
        elif self._step == self._read_body or (self._step == self._read_head and (self.buffered or self._role.is_awaiting())):
            raise BadMessage("a stream that ends within a message")

    def _fail(self, error: BadMessage) -> None:
        self._step = self._ignore
        self._data, self._at = b"", 0
        self._role.bad(error)
