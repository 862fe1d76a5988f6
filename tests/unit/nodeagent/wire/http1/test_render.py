"""Messages written anew: one field of framing, nothing of the connection that they came by, no line that is not ours."""

import pytest

from nodeagent.model.message import CHUNKED, UNTIL_CLOSE, Headers, RequestHead, ResponseHead
from nodeagent.wire.http1 import render
from tests.support.http1 import CODECS, told_by_client, told_by_origin

FIELDS: Headers = [(b"x-B", b"1"), (b"A", b""), (b"x-b", b"2")]


def request(method: bytes = b"GET", **said: object) -> RequestHead:
    return RequestHead(**{"method": method, "target": b"/a", "authority": b"web", "headers": FIELDS, **said})


def lines(block: bytes) -> list[bytes]:
    assert block.endswith(b"\r\n\r\n")
    return block[:-4].split(b"\r\n")


@pytest.mark.parametrize(
    ("head", "length", "expected"),
    [
        (request(), 0, []),
        (request(b"DELETE"), 0, []),
        (request(b"POST"), 0, [b"Content-Length: 0"]),
        (request(b"GET"), 5, [b"Content-Length: 5"]),
        (request(b"PUT"), CHUNKED, [b"Transfer-Encoding: chunked"]),
        (request(b"PUT", expects_continue=True), 5, [b"Content-Length: 5", b"Expect: 100-continue"]),
        (request(upgrade=b"websocket"), 0, [b"Upgrade: websocket", b"Connection: Upgrade"]),
        (request(accepts_trailers=True), 0, [b"TE: trailers", b"Connection: TE"]),
        (request(upgrade=b"a", accepts_trailers=True), 0, [b"TE: trailers", b"Upgrade: a", b"Connection: TE, Upgrade"]),
        (request(is_http10=True, keep_alive=False), 0, []),
    ],
)
def test_a_request_has_one_framing(head: RequestHead, length: int, expected: list[bytes]) -> None:
    """Line, host, fields in their order, and what is ours to say."""
    block = render.request_head(head, head.headers, length)
    assert [head.method + b" /a HTTP/1.1", b"Host: web", b"x-B: 1", b"A: ", b"x-b: 2", *expected] == lines(block)


def test_what_has_no_host_stays_in_http10() -> None:
    """HTTP/1.1 demands one, and we make none up."""
    head = request(authority=b"", is_http10=True, headers=[])
    assert [b"GET /a HTTP/1.0", b"Connection: keep-alive"] == lines(render.request_head(head, [], 0))
    assert [b"GET /a HTTP/1.0", b"Connection: close"] == lines(render.request_head(head, [], 0, keep_alive=False))


def test_a_request_may_be_the_last() -> None:
    """On its connection to the origin, which is ours."""
    assert b"Connection: close" in lines(render.request_head(request(), [], 0, keep_alive=False))


def answer(status: int = 200, **said: object) -> ResponseHead:
    return ResponseHead(**{"status": status, "reason": b"A b", "headers": FIELDS, **said})


@pytest.mark.parametrize(
    ("head", "length", "expected"),
    [
        (answer(), 0, [b"Content-Length: 0"]),
        (answer(), 5, [b"Content-Length: 5"]),
        (answer(), CHUNKED, [b"Transfer-Encoding: chunked"]),
        (answer(), UNTIL_CLOSE, [b"Connection: close"]),
        (answer(204, has_body=False), 0, []),
        (answer(304, has_body=False), 0, []),
        (answer(304, has_body=False, said_length=7), 0, [b"Content-Length: 7"]),
        (answer(100, has_body=False), 0, []),
        (answer(101, has_body=False, upgrade=b"websocket"), 0, [b"Upgrade: websocket", b"Connection: Upgrade"]),
        (answer(426, upgrade=b"websocket"), 0, [b"Content-Length: 0", b"Upgrade: websocket", b"Connection: Upgrade"]),
    ],
)
def test_an_answer_has_one_framing(head: ResponseHead, length: int, expected: list[bytes]) -> None:
    """Line, fields in their order, and what is ours to say."""
    block = render.response_head(head, head.headers, length, keep_alive=True)
    assert [b"HTTP/1.1 %d A b" % head.status, b"x-B: 1", b"A: ", b"x-b: 2", *expected] == lines(block)


def test_an_answer_says_whether_the_connection_goes_on() -> None:
    """To a client of HTTP/1.0 also that it does."""
    assert b"Connection: close" in lines(render.response_head(answer(), [], 5, keep_alive=False))
    assert b"Connection: keep-alive" in lines(render.response_head(answer(), [], 5, keep_alive=True, to_http10=True))
    assert b"Connection: close" in lines(render.response_head(answer(), [], UNTIL_CLOSE, keep_alive=True, to_http10=True))


@pytest.mark.parametrize("bad", [b"a\r\nB: c", b"a\nB: c", b"a\rB: c", b"a\0", b"\r\n"])
def test_no_value_makes_a_line(bad: bytes) -> None:
    """Wherever it stands: a head with more lines than fields is not sent."""
    for head in (request(authority=bad), request(upgrade=bad), request(b"GET /b HTTP/1.1\r\nA:"), request(target=b"/\r\n")):
        with pytest.raises(render.UnfitMessage):
            render.request_head(head, [], 0)
    for headers in ([(b"A", bad)], [(bad, b"a")]):
        with pytest.raises(render.UnfitMessage):
            render.request_head(request(), headers, 0)
        with pytest.raises(render.UnfitMessage):
            render.response_head(answer(), headers, 0, keep_alive=True)
        with pytest.raises(render.UnfitMessage):
            render.last_chunk(headers)
    with pytest.raises(render.UnfitMessage):
        render.response_head(answer(reason=bad), [], 0, keep_alive=True)


def test_chunks() -> None:
    """Lengths in hex; nothing for no data, as that would be the last one."""
    assert b"a\r\n0123456789\r\n" == render.chunk(b"0123456789")
    assert render.chunk(b"ab") == render.chunk_head(2) + b"ab" + render.CHUNK_END
    assert b"" == render.chunk(b"")
    assert b"0\r\n\r\n" == render.last_chunk([])
    assert b"0\r\nA: b\r\n\r\n" == render.last_chunk([(b"A", b"b")])


@pytest.mark.parametrize("codec", CODECS)
def test_an_answer_of_our_own_is_whole(codec: str) -> None:
    """A text with its length; to HEAD without the text."""
    said = render.simple_answer(403, b"no: 1\n", [(b"X-Request-Id", b"1")], keep_alive=True)
    head, body, end = told_by_origin(codec, [said]).events
    assert (403, b"Forbidden", 6, True) == (head[1].status, head[1].reason, head[1].length, head[1].keep_alive)
    assert ([(b"Content-Type", b"text/plain; charset=utf-8"), (b"X-Request-Id", b"1")], ("body", b"no: 1\n")) == (head[1].headers, body)
    assert ("end", []) == end
    assert not said.endswith(render.simple_answer(403, b"no: 1\n", keep_alive=False, is_to_head=True)[-6:])
    log = told_by_origin(codec, [render.simple_answer(599, b"x", keep_alive=False, is_to_head=True)], [b"HEAD"])
    assert (1, 1, False) == (log.ends, log.events[0][1].said_length, log.events[0][1].keep_alive)


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_written_is_read_as_what_it_was(codec: str) -> None:
    """Our own parsers see the message that was meant."""
    for head in (request(), request(b"POST", length=5), request(b"PUT", length=CHUNKED, expects_continue=True), request(upgrade=b"a")):
        assert head == told_by_client(codec, [render.request_head(head, head.headers, head.length)]).events[0][1]
    for answered in (answer(length=5), answer(length=CHUNKED), answer(length=UNTIL_CLOSE, keep_alive=False)):
        block = render.response_head(answered, answered.headers, answered.length, keep_alive=answered.keep_alive)
        assert answered == told_by_origin(codec, [block]).events[0][1]
