"""HTTP/1.1 out of hostile parts: smuggling is made of lines that are each nearly right."""

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets.http1 import http1_answers, http1_requests

ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b" \r\n", b"\r\n "])
NAMES = st.sampled_from(
    [b"Host", b"Content-Length", b"content-length", b"Content_Length", b"Content-Length ", b"Transfer-Encoding", b"transfer-encoding",
     b"Connection", b"Upgrade", b"TE", b"Trailer", b"Expect", b"Keep-Alive", b"Proxy-Connection", b"HTTP2-Settings", b"X", b"", b"\x0b", b" X", b"\xff"]
)  # fmt: skip
VALUES = st.sampled_from(
    [b"a", b"a:80", b"a@b", b"a:0", b"[::1]", b"0", b"5", b"05", b"+5", b"-1", b"5_0", b"0x5", b"5, 5", b"5 5", b"18446744073709551621", b"",
     b"chunked", b"Chunked", b"xchunked", b"gzip, chunked", b"chunked, chunked", b" chunked ", b"\x0bchunked", b"identity",
     b"close", b"keep-alive", b"Upgrade, X", b"upgrade", b"websocket", b"h2c", b"trailers", b"100-continue", b"\xe4", b"a\0", b"a\rb"]
)  # fmt: skip
GAPS = st.sampled_from([b": "] * 8 + [b":", b":\t", b" : ", b"\t:", b"::", b""])
GOOD = st.sampled_from(
    [b"Host: a\r\n", b"Host: a\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"X: y\r\n", b"Connection: close, X\r\n",
     b"Connection: Upgrade\r\n", b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"TE: trailers\r\n", b"Content-Length: 0\r\n"]
)  # fmt: skip
FIELDS = GOOD | GOOD | GOOD | st.tuples(NAMES, GAPS, VALUES, ENDS).map(b"".join)
REQUEST_LINES = st.tuples(
    st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI", b"bReW", b""]),
    st.sampled_from([b" "] * 8 + [b"  ", b"\t", b""]),
    st.sampled_from([b"/", b"/a?b", b"*", b"http://a/", b"http://a", b"http://b/", b"https://a/", b"a:80", b"/#", b"/\xe4", b"/ b", b"/\\"]),
    st.sampled_from([b" HTTP/1.1"] * 8 + [b" HTTP/1.0", b" HTTP/1.0", b" HTTP/2.0", b" HTTP/1.9", b" http/1.1", b"", b" HTTP/1.1 "]),
    ENDS,
).map(b"".join)
STATUS_LINES = st.tuples(
    st.sampled_from([b"HTTP/1.1 "] * 8 + [b"HTTP/1.0 ", b"HTTP/1.0 ", b"HTTP/2.0 ", b"HTTP/1.1", b"ICY "]),
    st.sampled_from([b"200", b"200", b"404", b"204", b"304", b"100", b"101", b"103", b"099", b"600", b"2000", b"20"]),
    st.sampled_from([b" OK"] * 4 + [b"", b" ", b" \xe4", b" a\0", b"OK"]),
    ENDS,
).map(b"".join)
CHUNKS = st.tuples(
    st.sampled_from([b"0", b"00", b"5", b"5", b"05", b"6", b"4", b"+5", b"5 ", b" 5", b"0x5", b"5_0", b"ffffffffffffffff", b""]),
    st.sampled_from([b""] * 6 + [b";a", b";a=b", b'; a="b', b" ;a", b";\n", b";" + 300 * b"a"]),
    ENDS,
    st.sampled_from([b"hello", b"hello", b"", b"0\r\n\r\n"]),
    ENDS,
).map(b"".join)
BODIES = st.lists(CHUNKS, max_size=3).map(b"".join) | st.sampled_from([b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n"])


def messages(lines: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    one = st.tuples(lines, st.lists(FIELDS, max_size=4).map(b"".join), st.just(b"\r\n") | ENDS, BODIES).map(b"".join)
    return st.lists(one, min_size=1, max_size=3).map(b"".join)


@given(messages(st.just(b"POST /a HTTP/1.1\r\n") | REQUEST_LINES))
def test_no_request_is_understood_in_two_ways(data: bytes) -> None:
    """By either codec, in any cuts, and by whoever reads what we write."""
    http1_requests(data)


@given(messages(st.just(b"HTTP/1.1 200 OK\r\n") | STATUS_LINES))
def test_no_answer_is_understood_in_two_ways(data: bytes) -> None:
    """The same of what origins send."""
    http1_answers(data)
