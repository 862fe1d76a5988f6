"""What a parser of HTTP/1.1 tells, written down so that two runs can be compared: bodies joined, so that cuts do not show."""

from collections.abc import Iterable, Iterator
from typing import cast

from nodeagent.model.message import Headers, RequestHead, ResponseHead
from nodeagent.wire.http1.events import BadMessage
from nodeagent.wire.http1.parser import CodecName, request_parser, response_parser

CODECS: tuple[CodecName, ...] = ("httptools", "h11")
Event = tuple[object, ...]
"""("head", head), ("body", bytes), ("end", trailers) or ("bad", status)."""


class Log:
    """A sink of either direction."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.errors: list[BadMessage] = []

    def on_request(self, head: RequestHead) -> None:
        self.events.append(("head", head))

    def on_response(self, head: ResponseHead) -> None:
        self.events.append(("head", head))

    def on_body(self, data: bytes) -> None:
        assert data
        if self.events[-1][0] == "body":
            data = cast("bytes", self.events.pop()[1]) + data
        self.events.append(("body", data))

    def on_end(self, trailers: Headers) -> None:
        self.events.append(("end", list(trailers)))

    def on_bad(self, error: BadMessage) -> None:
        self.errors.append(error)
        self.events.append(("bad", error.status))

    @property
    def ends(self) -> int:
        return sum(event[0] == "end" for event in self.events)

    @property
    def why(self) -> str:
        assert len(self.errors) == 1
        return str(self.errors[0])


def told_by_client(codec: CodecName, pieces: Iterable[bytes], *, ends: bool = False) -> Log:
    """What is told of a client that sends these pieces, each message asked for as soon as the one before it is complete."""
    log = Log()
    parser = request_parser(codec, log)
    for piece in pieces:
        parser.feed(piece)
        known = -1
        while known != len(log.events):
            known = len(log.events)
            parser.proceed()
    if ends:
        parser.eof()
    return log


def told_by_origin(
    codec: CodecName, pieces: Iterable[bytes], methods: Iterable[bytes] = (b"GET",), *, may_switch: bool = False, ends: bool = False
) -> Log:
    """What is told of an origin that sends these pieces as its answers to these requests, which were sent at once."""
    log = Log()
    parser = response_parser(codec, log)
    for method in methods:
        parser.expect(method, may_switch=may_switch)
    for piece in pieces:
        parser.feed(piece)
        known = -1
        while known != len(log.events):
            known = len(log.events)
            parser.proceed()
    if ends:
        parser.eof()
    return log


def cuts_of(data: bytes) -> Iterator[list[bytes]]:
    """The data at once, byte by byte, and in pieces of several sizes."""
    for size in (len(data) or 1, 1, 2, 3, 7, 64):
        yield [data[at : at + size] for at in range(0, len(data), size)]
