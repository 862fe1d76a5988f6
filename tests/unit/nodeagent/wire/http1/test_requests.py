"""Requests, the same by both codecs and in any cuts: what is refused with which status, and what the others say."""

import pytest

from nodeagent import limits
from nodeagent.model.message import CHUNKED, RequestHead
from tests.support.http1 import CODECS, Log, cuts_of, told_by_client

LINE, HOST = b"GET /a HTTP/1.1", b"Host: web"
CHUNKS = b"Transfer-Encoding: chunked"
UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket")


def message(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((*lines, b"", b"")) + body


def get(*fields: bytes, body: bytes = b"") -> bytes:
    return message(LINE, HOST, *fields, body=body)


def lines(*lines: bytes) -> bytes:
    """A request with this first line, or first lines, and nothing but a host."""
    return message(*lines, HOST)


REFUSED = {
    # framing
    "length and chunks": (get(b"Content-Length: 5", CHUNKS), 400, "content-length"),
    "chunks and length": (get(CHUNKS, b"Content-Length: 5"), 400, "content-length"),
    "two lengths": (get(b"Content-Length: 5", b"Content-Length: 6"), 400, ""),
    "two equal lengths": (get(b"Content-Length: 5", b"content-length: 5"), 400, ""),
    "two lengths of nothing": (get(b"Content-Length: 0", b"Content-Length: 0"), 400, ""),
    "a list of lengths": (get(b"Content-Length: 5, 5"), 400, ""),
    "a length with a plus": (get(b"Content-Length: +5"), 400, ""),
    "a length below nothing": (get(b"Content-Length: -5"), 400, ""),
    "a length in hex": (get(b"Content-Length: 0x5"), 400, ""),
    "a length with an underscore": (get(b"Content-Length: 1_0"), 400, ""),
    "a length with a space": (get(b"Content-Length: 1 0"), 400, ""),
    "a length with a fraction": (get(b"Content-Length: 5.0"), 400, ""),
    "a length of no digits": (get(b"Content-Length:"), 400, ""),
    "a length of white space": (get(b"Content-Length: \t "), 400, ""),
    "a length beyond all numbers": (get(b"Content-Length: 18446744073709551621"), 400, ""),
    "a length beyond ours": (get(b"Content-Length: 9999999999999999999"), 400, ""),
    "chunks twice": (get(CHUNKS, CHUNKS), 400, ""),
    "another coding": (get(b"Transfer-Encoding: xchunked"), 400, ""),
    "another coding before": (get(b"Transfer-Encoding: gzip, chunked"), 400, ""),
    "another coding behind": (get(b"Transfer-Encoding: chunked, identity"), 400, ""),
    "chunks twice in a list": (get(b"Transfer-Encoding: chunked, chunked"), 400, ""),
    "chunks with a comma": (get(b"Transfer-Encoding: ,chunked"), 400, ""),
    "chunks with a parameter": (get(b"Transfer-Encoding: chunked;q=1"), 400, ""),
    "chunks with a tab behind": (get(b"Transfer-Encoding: chunked\t"), 400, ""),
    "chunks with a tab and a blank behind": (get(b"X: a", b"transfer-encoding: chunked \t "), 400, ""),
    "chunks in quotes": (get(b'Transfer-Encoding: "chunked"'), 400, ""),
    "no coding": (get(b"Transfer-Encoding:"), 400, ""),
    "identity": (get(b"Transfer-Encoding: identity"), 400, ""),
    "chunks in HTTP/1.0": (message(b"POST / HTTP/1.0", HOST, CHUNKS), 400, ""),
    # lines
    "a folded field": (get(b"X: a", b" b"), 400, "another line"),
    "a folded first field": (message(LINE, b" X: a", HOST), 400, "another line"),
    "a folded field with a tab": (get(b"X: a", b"\tb"), 400, "another line"),
    "a folded coding": (get(b"Transfer-Encoding:", b" chunked"), 400, ""),
    "bare line feeds": (b"GET /a HTTP/1.1\nHost: web\n\n", 400, "line feed"),
    "a bare line feed in a head": (message(LINE + b"\nX: y", HOST), 400, "line feed"),
    "a bare line feed in a value": (get(b"X: a\nContent-Length: 5"), 400, "line feed"),
    "a bare line feed at its end": (LINE + b"\r\n" + HOST + b"\r\n\n", 400, "line feed"),
    "a bare carriage return in a value": (get(b"X: a\rContent-Length: 5"), 400, "control"),
    "a bare carriage return at its end": (get(b"X: a\r"), 400, "control"),
    "a bare carriage return in the line": (lines(b"GET /a\r HTTP/1.1"), 400, "request line"),
    "a bare carriage return before all": (b"\r" + get(), 400, "carriage return"),
    "NUL in a value": (get(b"X: a\0b"), 400, "control"),
    "NUL in a name": (get(b"X\0: a"), 400, "no word"),
    "NUL in the target": (lines(b"GET /a\0 HTTP/1.1"), 400, "request line"),
    "a control in a value": (get(b"X: a\x0bb"), 400, "control"),
    "DEL in a value": (get(b"X: a\x7f"), 400, "control"),
    "white space before the colon": (get(b"Content-Length : 5"), 400, "before a colon"),
    "a tab before the colon": (get(b"X\t: 5"), 400, "before a colon"),
    "a name with a space": (get(b"X Y: 5"), 400, "no word"),
    "a name beyond ASCII": (get(b"X\xff: 5"), 400, "no word"),
    "no name": (get(b": 5"), 400, "without a name"),
    "no colon": (get(b"Content-Length"), 400, "without a colon"),
    "two empty lines before": (b"\r\n\r\n" + get(), 400, "begins with"),
    "white space before": (b" " + get(), 400, "begins with"),
    "a hello of TLS": (b"\x16\x03\x01\x02\x00\x01\x00", 400, "begins with"),
    # the request's line
    "HTTP/0.9": (b"GET /a\r\n\r\n", 400, "request line"),
    "HTTP/2.0": (lines(b"GET /a HTTP/2.0"), 505, "version"),
    "HTTP/0.9 by name": (lines(b"GET /a HTTP/0.9"), 505, "version"),
    "HTTP/1.2": (lines(b"GET /a HTTP/1.2"), 505, "version"),
    "HTTP/1.10": (lines(b"GET /a HTTP/1.10"), 400, "request line"),
    "HTTP/01.1": (lines(b"GET /a HTTP/01.1"), 400, "request line"),
    "http in small letters": (lines(b"GET /a http/1.1"), 400, "request line"),
    "another protocol": (lines(b"GET /a HTTPS/1.1"), 400, "request line"),
    "two spaces": (lines(b"GET  /a HTTP/1.1"), 400, "request line"),
    "two spaces behind": (lines(b"GET /a  HTTP/1.1"), 400, "request line"),
    "a tab": (lines(b"GET\t/a HTTP/1.1"), 400, "request line"),
    "a space at the end": (lines(b"GET /a HTTP/1.1 "), 400, "request line"),
    "a space in the target": (lines(b"GET /a b HTTP/1.1"), 400, "request line"),
    "a fragment": (lines(b"GET /a#b HTTP/1.1"), 400, "request line"),
    "a target beyond ASCII": (lines(b"GET /\xc3\xa4 HTTP/1.1"), 400, "request line"),
    "no target": (lines(b"GET HTTP/1.1"), 400, "request line"),
    "no method": (lines(b" /a HTTP/1.1"), 400, "begins with"),
    "a method that is no word": (lines(b"G(T /a HTTP/1.1"), 400, "request line"),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "HTTP/2"),
    "PRI": (lines(b"PRI * HTTP/1.1"), 400, "OPTIONS"),
    "CONNECT": (lines(b"CONNECT web:80 HTTP/1.1"), 405, "CONNECT"),
    "CONNECT without a host": (message(b"CONNECT web:80 HTTP/1.1"), 405, "CONNECT"),
    "CONNECT to a path": (lines(b"CONNECT /a HTTP/1.1"), 405, "CONNECT"),
    "* of GET": (lines(b"GET * HTTP/1.1"), 400, "OPTIONS"),
    "an authority": (lines(b"GET web:80 HTTP/1.1"), 400, "neither"),
    "a path without a slash": (lines(b"GET a HTTP/1.1"), 400, "neither"),
    "another scheme": (lines(b"GET https://web/a HTTP/1.1"), 400, "neither"),
    "a scheme without an authority": (lines(b"GET http:/a HTTP/1.1"), 400, "neither"),
    "an empty authority": (lines(b"GET http:///a HTTP/1.1"), 400, "a host"),
    # the host
    "no host": (message(LINE), 400, "no host"),
    "two hosts": (get(b"Host: web"), 400, "host twice"),
    "two hosts that differ": (get(b"hOST: db"), 400, "host twice"),
    "two hosts in HTTP/1.0": (message(b"GET / HTTP/1.0", HOST, HOST), 400, "host twice"),
    "an empty host": (message(LINE, b"Host:"), 400, "a host"),
    "a host with a user": (message(LINE, b"Host: me@web"), 400, "a host"),
    "a host with a path": (message(LINE, b"Host: web/a"), 400, "a host"),
    "a host with a space": (message(LINE, b"Host: web db"), 400, "a host"),
    "a list of hosts": (message(LINE, b"Host: web, db"), 400, "a host"),
    "a host with an escape": (message(LINE, b"Host: w%65b"), 400, "a host"),
    "a host beyond ASCII": (message(LINE, b"Host: w\xc3\xa4b"), 400, "a host"),
    "a port that is none": (message(LINE, b"Host: web:http"), 400, "a host"),
    "a port beyond all": (message(LINE, b"Host: web:65536"), 400, "a host"),
    "port 0": (message(LINE, b"Host: web:0"), 400, "a host"),
    "an empty port": (message(LINE, b"Host: web:"), 400, "a host"),
    "an open bracket": (message(LINE, b"Host: [::1"), 400, "a host"),
    "a zone": (message(LINE, b"Host: [fe80::1%25eth0]"), 400, "a host"),
    "a URL for another host": (lines(b"GET http://db/a HTTP/1.1"), 400, "another host"),
    "a URL for another port": (lines(b"GET http://web:81/a HTTP/1.1"), 400, "another host"),
    "a URL with a user": (lines(b"GET http://web@db/a HTTP/1.1"), 400, "a host"),
    "a URL without a host field": (message(b"GET http://web/a HTTP/1.1"), 400, "no host"),
    # the connection
    "another expectation": (get(b"Expect: tea"), 417, "expectation"),
    "two expectations": (get(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 1"), 417, "expectation"),
    "a connection that is no word": (get(b'Connection: "close"'), 400, "list of words"),
    "a connection with a space": (get(b"Connection: keep alive"), 400, "list of words"),
    # limits
    "a head too long": (get(b"X: " + limits.HTTP_HEAD_BYTES * b"x"), 431, "head of more"),
    "a head too long that never ends": (LINE + b"\r\nX: " + limits.HTTP_HEAD_BYTES * b"x", 431, "head of more"),
    "a target too long": (lines(b"GET /" + limits.HTTP_LINE_BYTES * b"x" + b" HTTP/1.1"), 414, "first line of more"),
    "a target too long that never ends": (b"GET /" + limits.HTTP_LINE_BYTES * b"x", 414, "first line of more"),
    "a field too many": (get(*limits.HTTP_FIELDS * [b"X: y"]), 431, "fields"),
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("case", REFUSED)
def test_any_doubt_is_refused(codec: str, case: str) -> None:
    """With the same status however it was cut, with a word on why, and nothing of it, nor of what follows it, is told."""
    data, status, why = REFUSED[case]
    for pieces in cuts_of(data + get()) if len(data) < 2000 else [[data], [data[:1], data[1:]]]:
        log = told_by_client(codec, pieces)
        assert [("bad", status)] == log.events
        assert why in log.why or "h11" in log.why or "llhttp" in log.why


@pytest.mark.parametrize("codec", CODECS)
def test_where_a_limit_is_passed_first_does_not_depend_on_cuts(codec: str) -> None:
    """A head with several faults is refused for the first of them, byte by byte and at once."""
    for faults, status in (
        (b"GET /" + limits.HTTP_LINE_BYTES * b"x" + b"\n\r\n\r\n", 414),
        (b"GET /\n" + limits.HTTP_LINE_BYTES * b"x" + b"\r\n\r\n", 400),
        (LINE + b"\r\nX: " + limits.HTTP_HEAD_BYTES * b"x" + b"\n\r\n\r\n", 431),
        (LINE + b"\r\nX: \n" + limits.HTTP_HEAD_BYTES * b"x" + b"\r\n\r\n", 400),
    ):
        bytewise = (faults[at : at + 1] for at in range(len(faults)))
        assert [[("bad", status)]] * 2 == [told_by_client(codec, pieces).events for pieces in ([faults], bytewise)]


def told(codec: str, data: bytes) -> Log:
    """What is told, the same in all cuts."""
    first, *others = [told_by_client(codec, pieces) for pieces in cuts_of(data)]
    assert all(first.events == log.events for log in others)
    return first


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_at_a_limit_is_taken(codec: str) -> None:
    """Target, head and fields of the most that may be."""
    target = b"/" + (limits.HTTP_LINE_BYTES - len(b"GET / HTTP/1.1")) * b"x"
    most = lines(b"GET " + target + b" HTTP/1.1")
    assert target == told_by_client(codec, [most]).events[0][1].target
    filler = limits.HTTP_HEAD_BYTES - len(get(b"X: "))
    assert [(b"X", filler * b"x")] == told_by_client(codec, [get(b"X: " + filler * b"x")]).events[0][1].headers
    assert limits.HTTP_FIELDS - 1 == len(told_by_client(codec, [get(*(limits.HTTP_FIELDS - 1) * [b"X: y"])]).events[0][1].headers)


def head(**said: object) -> RequestHead:
    return RequestHead(**{"method": b"GET", "target": b"/a", "authority": b"web", "headers": [], **said})


def http10(*fields: bytes) -> bytes:
    return message(b"GET /a HTTP/1.0", *fields)


TAKEN = {
    "the least": (get(), head()),
    "an empty line before": (b"\r\n" + get(), head()),
    "names and values as they came": (
        get(b"x-A:b", b"x-a:  c \t", b"X_b:", b"X: \xc3\xa4"),
        head(headers=[(b"x-A", b"b"), (b"x-a", b"c"), (b"X_b", b""), (b"X", b"\xc3\xa4")]),
    ),
    "a method that nobody knows": (lines(b"bReW /a HTTP/1.1"), head(method=b"bReW")),
    "TRACE": (lines(b"TRACE /a HTTP/1.1"), head(method=b"TRACE")),
    "a query": (lines(b"GET /a?b=/../c&http://d HTTP/1.1"), head(target=b"/a?b=/../c&http://d")),
    "* of OPTIONS": (lines(b"OPTIONS * HTTP/1.1"), head(method=b"OPTIONS", target=b"*")),
    "a URL": (lines(b"GET HTTP://WEB:80/a HTTP/1.1"), head(authority=b"WEB:80")),
    "a URL without a path": (lines(b"GET http://web HTTP/1.1"), head(target=b"/")),
    "a URL with a query alone": (lines(b"GET http://web?a HTTP/1.1"), head(target=b"/?a")),
    "a URL without a path, of OPTIONS": (lines(b"OPTIONS http://web HTTP/1.1"), head(method=b"OPTIONS", target=b"*")),
    "a URL in HTTP/1.0": (message(b"GET http://web/a HTTP/1.0"), head(is_http10=True, keep_alive=False)),
    "a host with a port": (message(LINE, b"Host: web:8080"), head(authority=b"web:8080")),
    "a host of IPv6": (message(LINE, b"Host: [::1]:80"), head(authority=b"[::1]:80")),
    "HTTP/1.0": (http10(), head(authority=b"", is_http10=True, keep_alive=False)),
    "HTTP/1.0 that stays": (http10(HOST, b"Connection: Keep-Alive"), head(is_http10=True)),
    "HTTP/1.0 that stays and leaves": (http10(HOST, b"Connection: keep-alive, close"), head(is_http10=True, keep_alive=False)),
    "close": (get(b"Connection: close"), head(keep_alive=False)),
    "close among others": (get(b"Connection: , X-a ,CLOSE", b"X-A: b", b"X-B: c"), head(keep_alive=False, headers=[(b"X-B", b"c")])),
    "close in a second field": (get(b"Connection: keep-alive", b"Connection: close"), head(keep_alive=False)),
    "fields of the connection": (get(b"Keep-Alive: 5", b"Proxy-Connection: close", b"TE: gzip", b"Upgrade: a"), head()),
    "trailers are welcome": (get(b"TE: gzip;q=0.5, Trailers", b"Connection: TE"), head(accepts_trailers=True)),
    "WebSocket": (get(*UPGRADE), head(upgrade=b"websocket")),
    "an upgrade that Connection does not name": (get(b"Upgrade: websocket"), head()),
    "an upgrade in HTTP/1.0": (http10(HOST, *UPGRADE), head(is_http10=True, keep_alive=False)),
    "HTTP/2 in clear": (get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"), head()),
    "HTTP/2 in clear or WebSocket": (get(b"Connection: Upgrade", b"Upgrade: h2c, WebSocket"), head(upgrade=b"websocket")),
    "TLS within": (get(b"Connection: Upgrade", b"Upgrade: TLS/1.0"), head()),
    "one of two protocols": (get(b"Connection: Upgrade", b"Upgrade: a, b"), head()),
    "no body is awaited": (get(b"Expect: 100-continue"), head()),
    "no body by its length": (get(b"Content-Length: 0"), head()),
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("case", TAKEN)
def test_what_leaves_no_doubt_is_told(codec: str, case: str) -> None:
    """A head, and the end of a message without a body, in any cuts."""
    data, expected = TAKEN[case]
    assert [("head", expected), ("end", [])] == told(codec, data).events


def post(*fields: bytes, body: bytes) -> bytes:
    return message(b"POST /a HTTP/1.1", HOST, *fields, body=body)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (post(b"Content-Length: 5", body=b"hello"), head(method=b"POST", length=5)),
        (post(b"content-LENGTH: 0005", body=b"hello"), head(method=b"POST", length=5)),
        (post(b"Expect: 100-Continue", b"Content-Length: 5", body=b"hello"), head(method=b"POST", length=5, expects_continue=True)),
        (post(*UPGRADE, b"Content-Length: 5", body=b"hello"), head(method=b"POST", length=5)),
        (post(CHUNKS, body=b"5\r\nhello\r\n0\r\n\r\n"), head(method=b"POST", length=CHUNKED)),
        (post(b"transfer-encoding: CHUNKED", body=b"1\r\nh\r\n04;a=b\r\nello\r\n000\r\n\r\n"), head(method=b"POST", length=CHUNKED)),
    ],
)
def test_a_body_is_told_without_its_framing(codec: str, data: bytes, said: RequestHead) -> None:
    """By its length and in chunks; the next request begins behind it."""
    expected = [("head", said), ("body", b"hello"), ("end", [])]
    assert expected == told(codec, data).events
    assert [*expected, ("head", head()), ("end", [])] == told(codec, data + get()).events


@pytest.mark.parametrize("codec", CODECS)
def test_trailers_are_told_at_the_end(codec: str) -> None:
    """Those that go on, as they came."""
    log = told(codec, post(CHUNKS, body=b"0\r\nX-Sum: 1 \r\nCookie: a\r\n\r\n") + get())
    assert [("end", [(b"X-Sum", b"1")]), ("head", head())] == log.events[1:3]
