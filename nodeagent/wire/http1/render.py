"""Messages to bytes, anew from what was understood: one field of framing, none that was for us alone, no line that is not ours."""

from collections.abc import Iterable
from typing import Final

from nodeagent.errors import AgentError
from nodeagent.model.message import CHUNKED, UNTIL_CLOSE, Headers, RequestHead, ResponseHead

CHUNK_END: Final = b"\r\n"
_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
_METHODS_WITH_LENGTH: Final = frozenset({b"POST", b"PUT", b"PATCH"})
"""Whose requests say that they have no body: RFC 9110, 8.6."""
_REASONS: Final = {
    200: b"OK", 400: b"Bad Request", 403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed", 408: b"Request Timeout",
    413: b"Content Too Large", 414: b"URI Too Long", 417: b"Expectation Failed", 421: b"Misdirected Request",
    429: b"Too Many Requests", 431: b"Request Header Fields Too Large", 500: b"Internal Server Error", 501: b"Not Implemented",
    502: b"Bad Gateway", 503: b"Service Unavailable", 504: b"Gateway Timeout", 505: b"HTTP Version Not Supported",
}  # fmt: skip


class UnfitMessage(AgentError):
    """A head that would have more lines than fields: somebody's value has an end of line in it. It is not sent."""


def request_head(head: RequestHead, headers: Headers, length: int, *, keep_alive: bool = True) -> bytes:
    """The head of `head` with these fields and a body of `length`, CHUNKED included.

    It is HTTP/1.1 whatever the client speaks, for the connection is ours; but what has no Host cannot be.

    Raises:
        UnfitMessage: a value is no value.
    """
    is_http10 = head.is_http10 and not head.authority
    lines = [b"%b %b HTTP/1.%b\r\n" % (head.method, head.target, b"0" if is_http10 else b"1")]
    if not is_http10:
        lines.append(b"Host: " + head.authority + b"\r\n")
    lines += [name + b": " + value + b"\r\n" for name, value in headers]
    if length > 0 or (length == 0 and head.method in _METHODS_WITH_LENGTH):
        lines.append(b"Content-Length: %d\r\n" % length)
    elif length == CHUNKED:
        lines.append(_CHUNKED)
    if head.expects_continue:
        lines.append(b"Expect: 100-continue\r\n")
    if head.upgrade or head.accepts_trailers or not keep_alive or is_http10:
        lines += _connection(head.upgrade, accepts_trailers=head.accepts_trailers, keep_alive=keep_alive, is_http10=is_http10)
    return _block(lines)


def response_head(head: ResponseHead, headers: Headers, length: int, *, keep_alive: bool, to_http10: bool = False) -> bytes:
    """The head of `head` with these fields and a body of `length`, CHUNKED and UNTIL_CLOSE included.

    A client of HTTP/1.0 (`to_http10`) gets neither chunks nor answers before the last: that is its caller's to see to.

    Raises:
        UnfitMessage: a value is no value.
    """
    lines = [b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)]
    lines += [name + b": " + value + b"\r\n" for name, value in headers]
    if not head.has_body:
        if head.said_length is not None:
            lines.append(b"Content-Length: %d\r\n" % head.said_length)
    elif length >= 0:
        lines.append(b"Content-Length: %d\r\n" % length)
    elif length == CHUNKED:
        lines.append(_CHUNKED)
    if head.status >= 200 or head.upgrade:
        closes = not keep_alive or length == UNTIL_CLOSE
        if closes or head.upgrade or to_http10:
            lines += _connection(head.upgrade, accepts_trailers=False, keep_alive=not closes, is_http10=to_http10)
    return _block(lines)


def chunk_head(size: int) -> bytes:
    """What stands before `size` bytes of a body in chunks; after them stands CHUNK_END. `size` is not 0: that would be the last."""
    return b"%x\r\n" % size


def chunk(data: bytes) -> bytes:
    """A piece of a body as a chunk; nothing, where it is empty, which would be the last."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_chunk(trailers: Headers) -> bytes:
    """The end of a body in chunks.

    Raises:
        UnfitMessage: a value is no value.
    """
    if not trailers:
        return b"0\r\n\r\n"
    return _block([b"0\r\n", *(name + b": " + value + b"\r\n" for name, value in trailers)])


def simple_answer(status: int, body: bytes, headers: Headers | None = None, *, keep_alive: bool, is_to_head: bool = False) -> bytes:
    """An answer of our own, whole: a text. To HEAD (`is_to_head`) its body is left out."""
    said = [(b"Content-Type", b"text/plain; charset=utf-8"), *(headers or [])]
    head = ResponseHead(status, _REASONS.get(status, b""), [])
    return response_head(head, said, len(body), keep_alive=keep_alive) + (b"" if is_to_head else body)


def _connection(upgrade: bytes, *, accepts_trailers: bool, keep_alive: bool, is_http10: bool) -> Iterable[bytes]:
    words = []
    if accepts_trailers:
        yield b"TE: trailers\r\n"
        words.append(b"TE")
    if upgrade:
        yield b"Upgrade: " + upgrade + b"\r\n"
        words.append(b"Upgrade")
    if not keep_alive:
        words.append(b"close")
    elif is_http10:
        words.append(b"keep-alive")
    yield b"Connection: " + b", ".join(words) + b"\r\n"


def _block(lines: list[bytes]) -> bytes:
    """The lines and an empty one: as many as they are meant to be, whatever was put into one."""
    count = len(lines) + 1
    lines.append(b"\r\n")
    block = b"".join(lines)
    if block.count(b"\n") != count or block.count(b"\r") != count or b"\0" in block:
        raise UnfitMessage("a header's value with an end of line or a NUL in it")
    return block
