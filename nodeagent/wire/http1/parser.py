"""A parser for one connection, by the name that the configuration knows its codec by."""

from typing import Literal

from nodeagent.wire.http1.events import Codec, RequestParser, RequestSink, ResponseParser, ResponseSink
from nodeagent.wire.http1.fast import FastCodec
from nodeagent.wire.http1.messages import Messages
from nodeagent.wire.http1.requests import Requests
from nodeagent.wire.http1.responses import Answers

CodecName = Literal["httptools", "h11"]


def request_parser(codec: CodecName, sink: RequestSink) -> RequestParser:
    """A parser of what a client sends."""
    return Messages(Requests(_codec(codec), sink))


def response_parser(codec: CodecName, sink: ResponseSink) -> ResponseParser:
    """A parser of what an origin sends."""
    return Answers(_codec(codec), sink)


def _codec(name: CodecName) -> Codec:
    if name == "httptools":
        return FastCodec()
    from nodeagent.wire.http1.reference import ReferenceCodec  # noqa: PLC0415 - who does not choose it does without its memory

    return ReferenceCodec()
