"""Where bodies end, the same by both codecs and in any cuts; and which trailers go on."""

import pytest

from nodeagent import limits
from nodeagent.model.message import CHUNKED, UNTIL_CLOSE
from nodeagent.wire.http1.bodies import ChunkedBody, CountedBody, EndlessBody, body_reader, read_trailers
from nodeagent.wire.http1.events import BadMessage
from tests.support.http1 import CODECS, Event, cuts_of, told_by_client

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def told(codec: str, body: bytes) -> list[Event]:
    """What is told after the head, the same in all cuts."""
    first, *others = [told_by_client(codec, pieces).events[1:] for pieces in (cuts_of(HEAD + body) if len(body) < 2000 else [[HEAD + body], [HEAD, body]])]
    assert all(first == other for other in others)
    return first


REFUSED = {
    "no length": b"\r\n",
    "a length that is a word": b"g\r\nhello\r\n",
    "a length with a plus": b"+5\r\nhello\r\n",
    "a length below nothing": b"-5\r\nhello\r\n",
    "a length with an underscore": b"0_5\r\nhello\r\n",
    "a length in the form of C": b"0x5\r\nhello\r\n",
    "white space before a length": b" 5\r\nhello\r\n",
    "white space behind a length": b"5 \r\nhello\r\n",
    "white space before an extension": b"5 ;a\r\nhello\r\n",
    "a tab behind a length": b"5\t\r\nhello\r\n",
    "a comma": b"5,a\r\nhello\r\n",
    "a length beyond 64 bits": b"10000000000000005\r\nhello\r\n",
    "a length beyond ours": b"8000000000000000\r\nhello\r\n",
    "a bare line feed behind a length": b"5\nhello\r\n",
    "a bare carriage return behind a length": b"5\rhello\r\n",
    "a bare line feed in an extension": b"5;a\nb\r\nhello\r\n",
    "a bare carriage return in an extension": b"5;a\rb\r\nhello\r\n",
    "NUL in an extension": b"5;a\0b\r\nhello\r\n",
    "more than its length": b"4\r\nhello\r\n",
    "less than its length": b"6\r\nhello\r\n0\r\n\r\n",
    "a bare line feed behind a chunk": b"5\r\nhello\n0\r\n\r\n",
    "a bare carriage return behind a chunk": b"5\r\nhello\r0\r\n\r\n",
    "a folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "white space before a trailer's colon": b"0\r\nA : b\r\n\r\n",
    "a bare line feed in a trailer": b"0\r\nA: b\nC: d\r\n\r\n",
    "a bare line feed behind the last chunk": b"0\r\n\n",
    "a bare carriage return in a trailer": b"0\r\nA: b\rC: d\r\n\r\n",
    "a trailer of framing": b"0\r\nContent-Length: 5\r\n\r\n",
    "another trailer of framing": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a trailer of framing spelled otherwise": b"0\r\ncontent_length: 5\r\n\r\n",
    "a trailer of routing": b"0\r\nHost: b\r\n\r\n",
    "a trailer of the connection": b"0\r\nConnection: close\r\n\r\n",
    "trailers too long": b"0\r\nA: " + limits.HTTP_TRAILER_BYTES * b"b" + b"\r\n\r\n",
    "too many trailers": b"0\r\n" + (limits.HTTP_FIELDS + 1) * b"A: b\r\n" + b"\r\n",
    "an extension too long": b"5;" + limits.HTTP_CHUNK_LINE_BYTES * b"a" + b"\r\nhello\r\n",
    "an extension that never ends": b"5;" + limits.HTTP_CHUNK_LINE_BYTES * b"a",
    "a length that never ends": limits.HTTP_CHUNK_LINE_BYTES * b"0",
    "too many extensions": (limits.HTTP_EXTENSION_BYTES // 200 + 1) * (b"1;" + 199 * b"a" + b"\r\nh\r\n"),
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("case", REFUSED)
def test_any_doubt_is_refused(codec: str, case: str) -> None:
    """In any cuts; what was told of the body before is all that is told, and its end is not."""
    events = told(codec, REFUSED[case] + 5 * b"0\r\n\r\n")
    assert ("bad", 400) == events[-1]
    assert events[:-1] == [] or (len(events) == 2 and events[0][0] == "body")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\n0000000000000000\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n0;last\r\n\r\n", b"0123456789"),
        (b'2;a;b=c;d="e f; g"\r\n\r\n\r\n0\r\n\r\n', b"\r\n"),
        (300 * b"1\r\nx\r\n" + b"0\r\n\r\n", 300 * b"x"),
        (b"7\r\n0\r\n\r\nGE\r\n0\r\n\r\n", b"0\r\n\r\nGE"),
    ],
)
def test_chunks_are_taken_apart(codec: str, body: bytes, expected: bytes) -> None:
    """Their payload is told, and nothing of their framing."""
    assert ([("body", expected)] if expected else []) + [("end", [])] == told(codec, body)


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_at_a_limit_is_taken(codec: str) -> None:
    """A line, extensions and trailers of the most that may be."""
    line = b"5;" + (limits.HTTP_CHUNK_LINE_BYTES - 4) * b"a" + b"\r\nhello\r\n"
    assert [("body", b"hello"), ("end", [])] == told(codec, line + b"0\r\n\r\n")
    many = limits.HTTP_EXTENSION_BYTES // 128
    assert [("body", many * b"h"), ("end", [])] == told(codec, many * (b"1;" + 127 * b"a" + b"\r\nh\r\n") + b"0\r\n\r\n")
    value = (limits.HTTP_TRAILER_BYTES - 7) * b"b"
    assert [("end", [(b"A", value)])] == told(codec, b"0\r\nA: " + value + b"\r\n\r\n")
    assert [("end", limits.HTTP_FIELDS * [(b"A", b"b")])] == told(codec, b"0\r\n" + limits.HTTP_FIELDS * b"A: b\r\n" + b"\r\n")


def test_a_reader_for_each_length() -> None:
    """None where there is nothing to read."""
    assert body_reader(0) is None
    assert isinstance(body_reader(5), CountedBody)
    assert isinstance(body_reader(CHUNKED), ChunkedBody)
    assert isinstance(body_reader(UNTIL_CLOSE), EndlessBody)


def test_pieces_are_what_came() -> None:
    """A reader copies nothing together, and stops at the end of its body."""
    pieces: list[bytes] = []
    assert (5, []) == CountedBody(3).read(b"..abcd", 2, pieces)
    assert (7, None) == ChunkedBody().read(b"2\r\nab\r\n", 0, pieces)
    assert (4, None) == EndlessBody().read(b"..cd", 2, pieces)
    assert [b"abc", b"ab", b"cd"] == pieces


@pytest.mark.parametrize(
    "name",
    [
        b"Authorization", b"cookie", b"Set-Cookie", b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Client-Cert", b"x_forwarded_client_cert",
        b"X-Spiffe-Id", b"x-mesh-a", b"X-NodeAgent-Hops", b"x_nodeagent-hops", b"Content-Type", b"Range", b"If-Match", b"Trailer",
    ],
)  # fmt: skip
def test_trailers_about_identity_or_the_head_are_left_out(name: bytes) -> None:
    """Some origins take trailers for fields of the head: nobody gets one in by this way, however it is spelled."""
    assert [(b"X-Sum", b"1"), (b"grpc-status", b"0")] == read_trailers(b"X-Sum: 1\r\n" + name + b": a\r\ngrpc-status:0\r\n\r\n")


@pytest.mark.parametrize("raw", [b"A: b\r\n", b"A: b\n\r\n", b"A: b\r\n c\r\n\r\n", b"A\r\n\r\n", b"Te: trailers\r\n\r\n", b"HOST: a\r\n\r\n"])
def test_trailers_that_are_none_or_of_framing_are_refused(raw: bytes) -> None:
    """They are looked at as strictly as a head."""
    with pytest.raises(BadMessage):
        read_trailers(raw)
