"""Requests of one client, as messages of a stream."""

from collections.abc import Callable

from nodeagent.model.message import Headers
from nodeagent.wire.http1.events import BadMessage, BodyReader, Codec, RequestSink
from nodeagent.wire.http1.grammar import REQUEST, complain, is_too_big
from nodeagent.wire.http1.head import request_head


class Requests:
    """The Role of what a client sends."""

    is_request = True

    def __init__(self, codec: Codec, sink: RequestSink) -> None:
        self._codec, self._sink = codec, sink
        self.goes_on = True
        self.body: Callable[[int], BodyReader | None] = codec.body
        self.tell: Callable[[bytes], None] = sink.on_body

    def begin(self, raw: bytes) -> int:
        """Role's."""
        match = REQUEST.fullmatch(raw)
        if match is None or is_too_big(raw):
            raise complain(raw, is_request=True)
        if match[1] == b"CONNECT":
            raise BadMessage("CONNECT to what is no proxy", status=405)
        head = request_head((match[1], match[2], match[3]), self._codec.request_fields(match))
        length, self.goes_on = head.length, head.keep_alive
        self._sink.on_request(head)
        return length

    def end(self, trailers: Headers, *, is_more: bool) -> None:
        """Role's. More is a client that does not wait for answers."""
        del is_more
        self._sink.on_end(trailers)

    def bad(self, error: BadMessage) -> None:
        """Role's."""
        self._sink.on_bad(error)

    def is_awaiting(self) -> bool:
        """Role's: a client may leave."""
        return False

    def may_begin(self) -> bool:
        """Role's: a client may ask whenever it likes."""
        return True
