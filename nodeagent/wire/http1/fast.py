"""The default codec: httptools, llhttp from Python, reads the fields of heads.

The first line is ours: llhttp knows its own methods alone, and nothing must depend on which. So are the ends of bodies: it
cannot stop at the end of a message.
"""

import re
from typing import Final

import httptools

from nodeagent.model.message import Headers
from nodeagent.wire.http1.bodies import body_reader
from nodeagent.wire.http1.events import BadMessage

_LINE: Final = b"GET / HTTP/1.1\r\n"


class FastCodec:
    """Codec over httptools."""

    def request_fields(self, match: re.Match[bytes]) -> Headers:
        """Codec's."""
        return _fields(match[4])

    def response_fields(self, match: re.Match[bytes], method: bytes) -> Headers:
        """Codec's."""
        del method
        return _fields(match[4])

    body = staticmethod(body_reader)


class _Collector:
    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools': a field, without the white space before its value."""
        self.fields.append((name, value))


def _fields(lines: bytes) -> Headers:
    collector = _Collector()
    try:
        httptools.HttpRequestParser(collector).feed_data(_LINE + lines)
    except httptools.HttpParserUpgrade:
        pass  # it would stop here, at the end of the head, and so do we
    except httptools.HttpParserError as error:
        raise BadMessage(f"a head that llhttp refuses: {error}") from error
    if b" \r\n" in lines or b"\t\r\n" in lines:
        return [(name, value.rstrip(b" \t")) for name, value in collector.fields]
    return collector.fields
