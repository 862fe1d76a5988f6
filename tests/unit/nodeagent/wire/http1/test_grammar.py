"""Patterns of a head, and what is said of what does not match them."""

import pytest

from nodeagent import limits
from nodeagent.wire.http1.grammar import (
    BARE_LF,
    CHUNK_LINE,
    FIELDS,
    HOST,
    REQUEST,
    RESPONSE,
    TOKENS,
    complain,
    is_hopeless,
    is_too_big,
    split_fields,
)


def test_a_head_is_taken_apart() -> None:
    """Method, target, version and fields; version, status, reason and fields."""
    assert (b"GET", b"/a", b"1", b"A: b\r\n\r\n") == REQUEST.fullmatch(b"GET /a HTTP/1.1\r\nA: b\r\n\r\n").groups()
    assert (b"0", b"404", b"Not there", b"\r\n") == RESPONSE.fullmatch(b"HTTP/1.0 404 Not there\r\n\r\n").groups()
    assert RESPONSE.fullmatch(b"HTTP/1.1 404\r\n\r\n")[3] is None


def test_no_pattern_takes_long_over_what_does_not_match() -> None:
    """Each byte is looked at once: a head of the most that is allowed, with a fault at its end, is refused at once."""
    worst = b"GET / HTTP/1.1\r\n" + (limits.HTTP_HEAD_BYTES // 4) * b"a:\t\r\n" + b"\0\r\n\r\n"
    assert REQUEST.fullmatch(worst) is None
    assert REQUEST.fullmatch(b"a" * limits.HTTP_HEAD_BYTES) is None
    assert TOKENS.fullmatch(b" ," * limits.HTTP_HEAD_BYTES + b"\0") is None
    assert CHUNK_LINE.match(b"0;" + limits.HTTP_HEAD_BYTES * b"a") is None


def test_the_smaller_patterns() -> None:
    """Words, hosts, lengths of chunks, and line ends that are only half of one."""
    assert all(TOKENS.fullmatch(good) for good in (b"", b"a", b"a, b", b" ,a ,", b"x-A\t,close"))
    assert not any(TOKENS.fullmatch(bad) for bad in (b"a b", b'"a"', b"a;q=1", b"a\n"))
    assert all(HOST.fullmatch(good) for good in (b"a", b"a_b.c-d:1", b"[::1]", b"127.0.0.1:80"))
    assert not any(HOST.fullmatch(bad) for bad in (b"", b":80", b"a:b", b"a@b", b"a/b", b"::1", b"[a]b", b"[]", b"a\n", 256 * b"a"))
    assert BARE_LF.search(b"a\r\nb\n", 2).start() == 4
    assert BARE_LF.search(b"a\r\nb", 2) is None  # what stands before the place to look from is seen
    assert FIELDS.fullmatch(b"\r\n")
    assert not FIELDS.fullmatch(b"A: b\r\n")


def test_fields_are_split_without_the_space_around_values() -> None:
    """In their order, with names as they came."""
    assert [(b"A", b"b"), (b"a", b"c d"), (b"e", b"")] == split_fields(b"A: b\r\na:\tc d \t\r\ne:\r\n\r\n")
    assert [] == split_fields(b"\r\n")


def test_hopeless_beginnings_are_known_at_once() -> None:
    """Nobody waits for the rest of what cannot become a message."""
    assert is_hopeless(b"\x16\x03", 0, 0, is_request=True)
    assert is_hopeless(b"220 mail", 0, 0, is_request=False)
    assert is_hopeless(b"GET / HTTP/1.1\r\nA: b\n", 0, 16, is_request=True)
    assert is_hopeless(b"GET / HTTP/1.1\n", 0, 15, is_request=True) is False  # that was looked at before
    assert not is_hopeless(b"zGET / HTTP/1.1\r\nA: b\r", 1, 1, is_request=True)
    assert not is_hopeless(b"HTTP/1.1 2", 0, 0, is_request=False)


def test_limits_of_size() -> None:
    """A line and a head of the most that may be, and one byte more, complete and not."""
    line = limits.HTTP_LINE_BYTES * b"a"
    assert not is_hopeless(line + b"\r", 0, 0, is_request=True)
    assert is_hopeless(line + b"aa", 0, 0, is_request=True)
    assert not is_too_big(line + b"\r\n")
    assert is_too_big(line + b"a\r\n")
    head = b"a\r\n" + (limits.HTTP_HEAD_BYTES - 3) * b"b"
    assert not is_hopeless(head, 0, 0, is_request=True)
    assert is_hopeless(head + b"b", 0, 0, is_request=True)
    assert not is_too_big(head)
    assert is_too_big(head + b"b")
    fields = limits.HTTP_FIELDS * b"a:\r\n"
    assert not is_too_big(b"line\r\n" + fields + b"\r\n")
    assert is_too_big(b"line\r\n" + fields + b"a:\r\n\r\n")


@pytest.mark.parametrize(
    ("raw", "sender", "status", "why"),
    [
        (b"\0", "client", 400, "begins with b'\\x00'"),
        (b"GET / HTTP/3.0\r\n\r\n", "client", 505, "a version other than HTTP/1.0 and HTTP/1.1"),
        (b"HTTP/1.7 200 OK\r\n\r\n", "origin", 505, "a version other than HTTP/1.0 and HTTP/1.1"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "origin", 400, "a status line that is none"),
        (b"GET / HTTP/1.1\r\n" + 200 * b"a:\r\n" + b"\r\n", "client", 431, "more than 128 fields"),
    ],
)
def test_what_is_said_of_it(raw: bytes, sender: str, status: int, why: str) -> None:
    """The fault, in words for whoever sent it; each other one is in the tables of requests and answers."""
    error = complain(raw, is_request=sender == "client")
    assert (status, True) == (error.status, why in str(error))
