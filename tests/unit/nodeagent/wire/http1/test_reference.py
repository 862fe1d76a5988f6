"""h11's part: it reads whole messages, and what it reads otherwise is bad."""

import pytest

from nodeagent.model.message import CHUNKED
from nodeagent.wire.http1.events import BadMessage
from nodeagent.wire.http1.grammar import REQUEST, RESPONSE
from nodeagent.wire.http1.reference import ReferenceCodec


def begun(*fields: bytes) -> ReferenceCodec:
    """A codec behind the head of a request."""
    codec = ReferenceCodec()
    codec.request_fields(REQUEST.fullmatch(b"\r\n".join((b"POST /a HTTP/1.1", b"Host: a", *fields, b"", b""))))
    return codec


def test_fields_are_those_that_both_see() -> None:
    """In their order and letters."""
    match = REQUEST.fullmatch(b"BREW /a HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n")
    assert [(b"Host", b"a"), (b"transfer-encoding", b"Chunked")] == ReferenceCodec().request_fields(match)
    match = RESPONSE.fullmatch(b"HTTP/1.1 404 No\r\nX:  y\r\n\r\n")
    assert [(b"X", b"y")] == ReferenceCodec().response_fields(match, b"GET")


@pytest.mark.parametrize("fields", [(b"Content-Length: 5", b"Content-Length: 5"), (b"Content-Length: 5,5",), (b"Content-Length: a",)])
def test_fields_that_h11_makes_others_of_are_bad(fields: tuple[bytes, ...]) -> None:
    """It takes two equal lengths for one."""
    with pytest.raises(BadMessage, match="h11"):
        begun(*fields)


def test_a_body_is_read_by_both() -> None:
    """Counted, in chunks, or empty."""
    pieces: list[bytes] = []
    assert (3, []) == begun(b"Content-Length: 3").body(3).read(b"abcde", 0, pieces)
    assert (13, []) == begun(b"Transfer-Encoding: chunked").body(CHUNKED).read(b"3\r\nabc\r\n0\r\n\r\n", 0, pieces)
    assert begun().body(0) is None
    assert [b"abc", b"abc"] == pieces


@pytest.mark.parametrize(
    ("field", "length", "body"),
    [(b"Content-Length: 3", 2, b"abc"), (b"Content-Length: 3", 4, b"abcd"), (b"Transfer-Encoding: chunked", 3, b"abc")],
)
def test_a_body_that_ends_elsewhere_for_h11_is_bad(field: bytes, length: int, body: bytes) -> None:
    """Were we to count otherwise than it does, it would be seen."""
    with pytest.raises(BadMessage, match="h11"):
        begun(field).body(length).read(body, 0, [])


def test_a_body_that_h11_alone_sees_is_bad() -> None:
    """It waits for one where we see none."""
    with pytest.raises(BadMessage, match="h11 sees"):
        begun(b"Content-Length: 3").body(0)
