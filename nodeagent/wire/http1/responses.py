"""Answers of one origin, as messages of a stream: each belongs to a request, and what belongs to none is bad."""

from collections import deque
from collections.abc import Callable

from nodeagent import limits
from nodeagent.errors import Side
from nodeagent.model.message import Headers
from nodeagent.wire.http1.events import INTERIM, BadMessage, BodyReader, Codec, ResponseSink
from nodeagent.wire.http1.grammar import RESPONSE, complain, is_too_big
from nodeagent.wire.http1.head import response_head
from nodeagent.wire.http1.messages import Messages

_BAD_GATEWAY = 502


class Responses:
    """The Role of what an origin sends."""

    is_request = False

    def __init__(self, codec: Codec, sink: ResponseSink) -> None:
        self._codec, self._sink = codec, sink
        self.goes_on = True
        self.body: Callable[[int], BodyReader | None] = codec.body
        self.tell: Callable[[bytes], None] = sink.on_body
        self._expected: deque[tuple[bytes, bool]] = deque()
        """Method of each request that waits for its answer, and whether it asked for another protocol."""
        self._interims = 0

    def expect(self, method: bytes, *, may_switch: bool) -> None:
        """ResponseParser's."""
        self._expected.append((method, may_switch))

    def begin(self, raw: bytes) -> int:
        """Role's."""
        match = RESPONSE.fullmatch(raw)
        if match is None or is_too_big(raw):
            raise complain(raw, is_request=False)
        method, may_switch = self._expected[0]
        fields = self._codec.response_fields(match, method)
        head, follows = response_head((match[1], match[2], match[3]), fields, method, may_switch=may_switch)
        if follows == INTERIM:
            self._interims += 1
            if self._interims > limits.HTTP_INTERIMS:
                raise BadMessage(f"more than {limits.HTTP_INTERIMS} answers before the last")
        self.goes_on = head.keep_alive
        self._sink.on_response(head)
        return follows

    def end(self, trailers: Headers, *, is_more: bool) -> None:
        """Role's. More than was asked for is told after the answer, and is never taken for the next one."""
        self._expected.popleft()
        self._interims = 0
        is_unasked = is_more and not self._expected
        self._sink.on_end(trailers)
        if is_unasked:
            raise BadMessage("more than was asked for")

    def bad(self, error: BadMessage) -> None:
        """Role's."""
        error.side, error.status = Side.UPSTREAM, _BAD_GATEWAY
        self._sink.on_bad(error)

    def is_awaiting(self) -> bool:
        """Role's."""
        return bool(self._expected)

    def may_begin(self) -> bool:
        """Role's."""
        return bool(self._expected)


class Answers:
    """The ResponseParser."""

    def __init__(self, codec: Codec, sink: ResponseSink) -> None:
        self._role = Responses(codec, sink)
        self._messages = Messages(self._role)

    def expect(self, method: bytes, *, may_switch: bool = False) -> None:
        """ResponseParser's."""
        self._role.expect(method, may_switch=may_switch)

    def feed(self, data: bytes) -> None:
        """Parser's."""
        self._messages.feed(data)

    def proceed(self) -> None:
        """Parser's."""
        self._messages.proceed()

    def eof(self) -> None:
        """Parser's."""
        self._messages.eof()

    @property
    def is_idle(self) -> bool:
        """Parser's; and nothing is awaited."""
        return self._messages.is_idle and not self._role.is_awaiting()

    @property
    def buffered(self) -> int:
        """Parser's."""
        return self._messages.buffered

    def take_rest(self) -> bytes:
        """Parser's."""
        return self._messages.take_rest()
