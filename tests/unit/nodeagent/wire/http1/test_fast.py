"""httptools' part: fields of a head, whatever its first line is."""

import pytest

from nodeagent.wire.http1.events import BadMessage
from nodeagent.wire.http1.fast import FastCodec
from nodeagent.wire.http1.grammar import REQUEST, RESPONSE


def test_fields_are_read_whatever_the_method_is() -> None:
    """llhttp knows some forty methods, and nothing here depends on which."""
    for method in (b"GET", b"BREW", b"CONNECT", b"M-SEARCH"):
        match = REQUEST.fullmatch(method + b" /a HTTP/1.1\r\nA:  b \r\nc:\r\n\r\n")
        assert [(b"A", b"b"), (b"c", b"")] == FastCodec().request_fields(match)


def test_a_head_that_ends_its_protocol_is_read_to_its_end() -> None:
    """httptools says an upgrade by an exception, after the fields."""
    match = RESPONSE.fullmatch(b"HTTP/1.1 101 A\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX: y\r\n\r\n")
    assert (b"X", b"y") == FastCodec().response_fields(match, b"GET")[-1]


def test_what_llhttp_refuses_is_bad() -> None:
    """It sees framing of its own."""
    match = REQUEST.fullmatch(b"GET /a HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(BadMessage, match="llhttp refuses"):
        FastCodec().request_fields(match)


def test_a_body_has_its_reader() -> None:
    """None for an empty one."""
    assert FastCodec().body(0) is None
    assert (1, []) == FastCodec().body(1).read(b"ab", 0, [])
