"""Answers, the same by both codecs and in any cuts: what is refused, what the others say, and to which request they belong."""

import pytest

from nodeagent import limits
from nodeagent.errors import Side
from nodeagent.model.message import CHUNKED, UNTIL_CLOSE, ResponseHead
from nodeagent.wire.http1.parser import response_parser
from tests.support.http1 import CODECS, Log, cuts_of, told_by_origin

OK = b"HTTP/1.1 200 OK"
CHUNKS = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: 5"
SWITCH = (b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket")


def message(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((*lines, b"", b"")) + body


WHOLE = message(OK, LENGTH, body=b"hello")


def told(codec: str, data: bytes, *methods: bytes, may_switch: bool = False, ends: bool = False) -> Log:
    """What is told, the same in all cuts."""
    asked = methods or (b"GET",)
    first, *others = [told_by_origin(codec, pieces, asked, may_switch=may_switch, ends=ends) for pieces in cuts_of(data)]
    assert all(first.events == log.events for log in others)
    return first


REFUSED = {
    "length and chunks": message(OK, LENGTH, CHUNKS),
    "two lengths": message(OK, LENGTH, LENGTH),
    "a list of lengths": message(OK, b"Content-Length: 5, 5"),
    "a length with a plus": message(OK, b"Content-Length: +5"),
    "another coding": message(OK, b"Transfer-Encoding: gzip, chunked"),
    "another coding alone": message(OK, b"Transfer-Encoding: gzip"),
    "chunks twice": message(OK, CHUNKS, CHUNKS),
    "chunks in HTTP/1.0": message(b"HTTP/1.0 200 OK", CHUNKS),
    "a status below all": message(b"HTTP/1.1 099 A", LENGTH),
    "a status beyond all": message(b"HTTP/1.1 600 A", LENGTH),
    "a status of two digits": message(b"HTTP/1.1 20 A", LENGTH),
    "a status of four digits": message(b"HTTP/1.1 2000 A", LENGTH),
    "a status that is a word": message(b"HTTP/1.1 OK", LENGTH),
    "HTTP/2.0": message(b"HTTP/2.0 200 OK", LENGTH),
    "HTTP/1.2": message(b"HTTP/1.2 200 OK", LENGTH),
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "ICY": message(b"ICY 200 OK"),
    "HTTP/0.9": b"<html>",
    "an empty line before": b"\r\n" + WHOLE,
    "a folded field": message(OK, LENGTH, b" 6"),
    "white space before the colon": message(OK, b"Content-Length : 5"),
    "a bare line feed": message(OK + b"\nX: y", LENGTH),
    "a bare carriage return": message(OK, b"X: a\rb", LENGTH),
    "a control in the reason": message(b"HTTP/1.1 200 O\0K", LENGTH),
    "204 with a body": message(b"HTTP/1.1 204 No Content", LENGTH),
    "204 in chunks": message(b"HTTP/1.1 204 No Content", CHUNKS),
    "100 with a body": message(b"HTTP/1.1 100 Continue", LENGTH),
    "103 in chunks": message(b"HTTP/1.1 103 Early Hints", CHUNKS),
    "101 that nobody asked for": message(*SWITCH),
    "a head too long": message(OK, b"X: " + limits.HTTP_HEAD_BYTES * b"x"),
    "a line too long": message(OK + limits.HTTP_LINE_BYTES * b"x"),
    "a field too many": message(OK, *limits.HTTP_FIELDS * [b"X: y"], LENGTH),
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("case", REFUSED)
def test_any_doubt_is_the_origins(codec: str, case: str) -> None:
    """502, in any cuts; nothing of it, nor of what follows it, is told."""
    data = REFUSED[case] + WHOLE
    for pieces in cuts_of(data) if len(data) < 2000 else [[data], [data[:1], data[1:]]]:
        log = told_by_origin(codec, pieces)
        assert [("bad", 502)] == log.events
        assert log.errors[0].side is Side.UPSTREAM


def head(status: int = 200, reason: bytes = b"OK", **said: object) -> ResponseHead:
    return ResponseHead(**{"status": status, "reason": reason, "headers": [], **said})


BODY = ("body", b"hello")
END = ("end", [])
GOOD = {
    "a length": (WHOLE, [("head", head(length=5)), BODY, END]),
    "chunks": (message(OK, CHUNKS, body=b"5\r\nhello\r\n0\r\n\r\n"), [("head", head(length=CHUNKED)), BODY, END]),
    "trailers": (message(OK, CHUNKS, body=b"0\r\nA: b\r\n\r\n"), [("head", head(length=CHUNKED)), ("end", [(b"A", b"b")])]),
    "no body": (message(OK, b"Content-Length: 0"), [("head", head()), END]),
    "no reason": (message(b"HTTP/1.1 200", LENGTH, body=b"hello"), [("head", head(reason=b"", length=5)), BODY, END]),
    "an empty reason": (message(b"HTTP/1.1 200 ", LENGTH, body=b"hello"), [("head", head(reason=b"", length=5)), BODY, END]),
    "a reason beyond ASCII": (message(b"HTTP/1.1 404 N\xe4", LENGTH, body=b"hello"), [("head", head(404, b"N\xe4", length=5)), BODY, END]),
    "fields": (message(OK, LENGTH, b"Set-Cookie: a", b"set-cookie:b ", body=b"hello"), [
        ("head", head(length=5, headers=[(b"Set-Cookie", b"a"), (b"set-cookie", b"b")])), BODY, END,
    ]),
    "the connection's fields": (message(OK, LENGTH, b"Connection: X-A, close", b"X-A: b", b"Keep-Alive: 5", b"Upgrade: h2", body=b"hello"), [
        ("head", head(length=5, keep_alive=False)), BODY, END,
    ]),
    "HTTP/1.0": (message(b"HTTP/1.0 200 OK", LENGTH, body=b"hello"), [("head", head(length=5, keep_alive=False)), BODY, END]),
    "HTTP/1.0 that stays": (message(b"HTTP/1.0 200 OK", LENGTH, b"Connection: keep-alive", body=b"hello"), [
        ("head", head(length=5)), BODY, END,
    ]),
    "204": (message(b"HTTP/1.1 204 A"), [("head", head(204, b"A", has_body=False)), END]),
    "204 with a length of 0": (message(b"HTTP/1.1 204 A", b"Content-Length: 0"), [("head", head(204, b"A", has_body=False)), END]),
    "304": (message(b"HTTP/1.1 304 A"), [("head", head(304, b"A", has_body=False)), END]),
    "304 with a length": (message(b"HTTP/1.1 304 A", LENGTH), [("head", head(304, b"A", has_body=False, said_length=5)), END]),
    "304 in chunks": (message(b"HTTP/1.1 304 A", CHUNKS), [("head", head(304, b"A", has_body=False)), END]),
    "426": (message(b"HTTP/1.1 426 A", b"Upgrade: h2c, WebSocket", b"Content-Length: 0"), [("head", head(426, b"A", upgrade=b"websocket")), END]),
    "100 and the last": (message(b"HTTP/1.1 100 Continue") + WHOLE, [
        ("head", head(100, b"Continue", has_body=False)), ("head", head(length=5)), BODY, END,
    ]),
    "103 with fields": (message(b"HTTP/1.1 103 A", b"Link: b", b"Content-Length: 0") + WHOLE, [
        ("head", head(103, b"A", has_body=False, headers=[(b"Link", b"b")])), ("head", head(length=5)), BODY, END,
    ]),
}  # fmt: skip


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("case", GOOD)
def test_what_leaves_no_doubt_is_told(codec: str, case: str) -> None:
    """In any cuts, and the next answer begins behind it, unless it is the last."""
    data, expected = GOOD[case]
    assert expected == told(codec, data).events
    goes_on = all(event[1].keep_alive for event in expected if event[0] == "head")
    behind = [("head", head(length=5)), BODY, END] if goes_on else []
    assert [*expected, *behind] == told(codec, data + WHOLE, b"GET", b"GET").events


@pytest.mark.parametrize("codec", CODECS)
def test_what_nobody_frames_ends_with_the_connection(codec: str) -> None:
    """The connection cannot go on, whatever it says; until its end the body is told as it comes."""
    for line in (OK, b"HTTP/1.0 200 OK"):
        log = told(codec, message(line, b"Connection: keep-alive", body=b"hello"), ends=True)
        assert [("head", head(length=UNTIL_CLOSE, keep_alive=False)), BODY, END] == log.events
    assert [("head", head(length=UNTIL_CLOSE, keep_alive=False)), END] == told(codec, message(OK), ends=True).events


@pytest.mark.parametrize("codec", CODECS)
def test_an_answer_to_head_has_no_body(codec: str) -> None:
    """It says how long it would be; the next answer begins right behind it."""
    data = message(OK, LENGTH) + message(OK, CHUNKS) + message(OK) + WHOLE
    log = told(codec, data, b"HEAD", b"HEAD", b"HEAD", b"GET")
    without = [("head", head(has_body=False)), END]
    assert [("head", head(has_body=False, said_length=5)), END, *without, *without, ("head", head(length=5)), BODY, END] == log.events


@pytest.mark.parametrize("codec", CODECS)
def test_another_protocol_begins_after_a_switch_that_was_asked_for(codec: str) -> None:
    """What follows is not looked at, and is there to be taken."""
    said = head(101, b"Switching Protocols", has_body=False, upgrade=b"websocket")
    assert [("head", said)] == told(codec, message(*SWITCH, body=b"\x81\x00\r\n\r\n"), may_switch=True, ends=True).events
    log = Log()
    parser = response_parser(codec, log)
    parser.expect(b"GET", may_switch=True)
    parser.feed(message(*SWITCH, body=b"\x81\x00"))
    parser.feed(b"\x82")
    assert (3, False) == (parser.buffered, parser.is_idle)
    assert b"\x81\x00\x82" == parser.take_rest()
    parser.feed(b"\x83")
    assert (0, [("head", said)]) == (parser.buffered, log.events)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("fields", [(b"Connection: Upgrade",), (b"Connection: Upgrade", b"Upgrade: h2c"), (b"Connection: Upgrade", b"Upgrade: a, b")])
def test_a_switch_to_nobody_knows_what_is_refused(codec: str, fields: tuple[bytes, ...]) -> None:
    """Nor to what would carry requests past us."""
    assert [("bad", 502)] == told(codec, message(b"HTTP/1.1 101 A", *fields), may_switch=True).events


@pytest.mark.parametrize("codec", CODECS)
def test_a_tunnel_is_never_made(codec: str) -> None:
    """CONNECT is not asked of anybody; an answer that would open one is refused."""
    assert [("bad", 502)] == told(codec, WHOLE, b"CONNECT").events
    assert told(codec, message(b"HTTP/1.1 405 A", LENGTH, body=b"hello"), b"CONNECT").ends == 1


@pytest.mark.parametrize("codec", CODECS)
def test_there_are_not_endlessly_many_answers_before_the_last(codec: str) -> None:
    """So many are told; with one more the origin is given up. They are counted for each request."""
    interim = message(b"HTTP/1.1 102 A")
    most = limits.HTTP_INTERIMS * interim
    assert told_by_origin(codec, [2 * (most + WHOLE)], [b"GET", b"GET"]).ends == 2
    assert ("bad", 502) == told_by_origin(codec, [most + interim + WHOLE]).events[-1]


@pytest.mark.parametrize("codec", CODECS)
def test_what_nobody_asked_for_is_bad(codec: str) -> None:
    """Before the first request, or behind an answer, at once or later: it is never taken for the answer to what is asked next."""
    assert [("bad", 502)] == told_by_origin(codec, [WHOLE], []).events
    for pieces in cuts_of(WHOLE + WHOLE):
        log = told_by_origin(codec, pieces)
        assert (1, ("bad", 502)) == (log.ends, log.events[-1])


@pytest.mark.parametrize("codec", CODECS)
def test_who_asks_again_as_soon_as_an_answer_ends_is_not_given_what_came_behind_it(codec: str) -> None:
    """The owner's next request cannot have been answered by what came with the answer before it."""

    class Eager(Log):
        def on_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
            super().on_end(trailers)
            parser.expect(b"GET")
            parser.proceed()

    log = Eager()
    parser = response_parser(codec, log)
    parser.expect(b"GET")
    parser.feed(WHOLE + WHOLE)
    assert (1, ("bad", 502)) == (log.ends, log.events[-1])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("data", [b"", b"H", message(OK, LENGTH), message(OK, LENGTH, body=b"hell"), message(OK, CHUNKS, body=b"5\r\nhello\r\n")])
def test_an_answer_that_is_cut_off_is_bad(codec: str, data: bytes) -> None:
    """Also one that has not begun: somebody waits for it."""
    assert ("bad", 502) == told(codec, data, ends=True).events[-1]


@pytest.mark.parametrize("codec", CODECS)
def test_an_idle_connection_may_end(codec: str) -> None:
    """Before anything was asked, and after all was answered."""
    assert [] == told_by_origin(codec, [], [], ends=True).events
    assert END == told(codec, WHOLE, ends=True).events[-1]


@pytest.mark.parametrize("codec", CODECS)
def test_it_is_idle_while_nothing_is_asked_and_nothing_is_here(codec: str) -> None:
    """Then another request may be sent on its connection."""
    parser = response_parser(codec, Log())
    assert parser.is_idle
    parser.expect(b"GET")
    assert not parser.is_idle
    parser.feed(WHOLE)
    assert not parser.is_idle
    parser.proceed()
    assert parser.is_idle
    parser.expect(b"GET")
    parser.feed(message(OK, LENGTH, b"Connection: close", body=b"hello"))
    parser.proceed()
    assert not parser.is_idle
