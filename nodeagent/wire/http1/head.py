"""What a head says: where its body ends, whether its connection goes on, whom it is for. Any doubt is BadMessage.

Fields of framing and of the connection end here: they become values, and `render` says them anew. What else there is
goes on as it came.
"""

import functools
import re
from typing import Final

from nodeagent.model.message import CHUNKED, UNTIL_CLOSE, Headers, RequestHead, ResponseHead
from nodeagent.wire.http1.events import INTERIM, SWITCHED, BadMessage
from nodeagent.wire.http1.grammar import HOST, TOKENS

RequestLine = tuple[bytes, bytes, bytes]
"""Method, target, minor version."""
ResponseLine = tuple[bytes, bytes, bytes]
"""Minor version, status, reason."""

_ONCE: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})
_OF_CONNECTION: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"http2-settings",
    b"content-length", b"transfer-encoding",
})  # fmt: skip
OF_REQUEST: Final = _OF_CONNECTION | {b"host", b"expect"}
"""Fields of a request that do not go on as they came."""
OF_RESPONSE: Final = _OF_CONNECTION
"""Fields of an answer that do not go on as they came."""
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")  # below 2**63, for whoever counts in such numbers
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp]://([^/?]*)([/?].*)?")
_PORT_MAX: Final = 65_535
_OTHER_HTTP: Final = (b"h2", b"http/", b"tls/")
"""What nobody is let switch to: nothing could be decided about requests then."""
_NO_BODY: Final = frozenset({204, 304})
_NO_FIELDS: Final = _OF_CONNECTION | {b"close"}
"""What Connection names beside fields that would go on."""
_NO_WORDS: Final[frozenset[bytes]] = frozenset()
_SWITCHING_PROTOCOLS, _UPGRADE_REQUIRED = 101, 426


def sort_fields(fields: Headers, special: frozenset[bytes]) -> tuple[Headers, dict[bytes, bytes]]:
    """(those that go on, values of those that do not by their name): lists are joined.

    Raises:
        BadMessage: one of framing or routing is there twice, be it with the same value.
    """
    kept, found = [], {}
    for field in fields:
        name = field[0].lower()
        if name not in special:
            kept.append(field)
        elif name not in found:
            found[name] = field[1]
        elif name in _ONCE:
            raise BadMessage(f"{name.decode()} twice")
        else:
            found[name] += b"," + field[1]
    return kept, found


def request_head(line: RequestLine, fields: Headers) -> RequestHead:
    """The request that this line and these fields are.

    Raises:
        BadMessage: a doubt, with the status to answer.
    """
    method, target, minor = line
    kept, found = sort_fields(fields, OF_REQUEST)
    is_http10 = minor == b"0"
    length = _length_of(found, is_http10=is_http10)
    target, authority = _destination(method, target, found.get(b"host"), is_http10=is_http10)
    head = RequestHead(method, target, authority, kept, length or 0, is_http10, not is_http10)
    if len(found) > (b"host" in found) + (length is not None):
        _read_manners(head, found)
    return head


def response_head(line: ResponseLine, fields: Headers, method: bytes, *, may_switch: bool) -> tuple[ResponseHead, int]:
    """The answer that this line and these fields are to `method`; and what follows: a length, INTERIM or SWITCHED.

    Raises:
        BadMessage: a doubt. It is the origin's.
    """
    minor, status, reason = line
    kept, found = sort_fields(fields, OF_RESPONSE)
    is_http10 = minor == b"0"
    head = ResponseHead(int(status), reason or b"", kept, keep_alive=not is_http10)
    said = _length_of(found, is_http10=is_http10)
    if b"connection" in found:
        _read_connection(head, found[b"connection"], is_http10=is_http10)
    if head.status < 200:
        return head, _interim(head, found, said, may_switch=may_switch)
    if head.status == _UPGRADE_REQUIRED:
        head.upgrade = _protocol(found)
    if method == b"CONNECT" and head.status < 300:
        raise BadMessage("a tunnel that nobody asked for")
    if method == b"HEAD" or head.status in _NO_BODY:
        _leave_out_body(head, said)
    else:
        head.length = UNTIL_CLOSE if said is None else said
        head.keep_alive = head.keep_alive and head.length != UNTIL_CLOSE
    return head, head.length


def _length_of(found: dict[bytes, bytes], *, is_http10: bool) -> int | None:
    """What the fields of framing say; None: nothing."""
    said, coding = found.get(b"content-length"), found.get(b"transfer-encoding")
    if coding is not None:
        if said is not None:
            raise BadMessage("content-length and transfer-encoding")
        if is_http10:
            raise BadMessage("transfer-encoding in HTTP/1.0")
        if coding.lower() != b"chunked":
            raise BadMessage("a transfer-encoding other than chunked")
        return CHUNKED
    if said is None:
        return None
    if not _LENGTH.fullmatch(said):
        raise BadMessage("a content-length that is no number")
    return int(said)


def _destination(method: bytes, target: bytes, host: bytes | None, *, is_http10: bool) -> tuple[bytes, bytes]:
    """(target in origin form or `*`, authority)."""
    if host is not None:
        check_host(host)
    elif not is_http10:
        raise BadMessage("no host")
    if target.startswith(b"/"):
        return target, host or b""
    if target == b"*":
        if method != b"OPTIONS":
            raise BadMessage("a target of * that is not of OPTIONS")
        return target, host or b""
    absolute = _ABSOLUTE.fullmatch(target)
    if not absolute:
        raise BadMessage("a target that is neither a path nor a URL of http")
    authority, rest = absolute[1], absolute[2] or b""
    check_host(authority)
    if host is not None and _without_default_port(host) != _without_default_port(authority):
        raise BadMessage("a target that is for another host")
    if not rest:
        return (b"*" if method == b"OPTIONS" else b"/"), authority
    return (rest if rest.startswith(b"/") else b"/" + rest), authority


@functools.lru_cache(1024)
def check_host(host: bytes) -> None:
    """Nothing, where it is a name or an address, and a port or none. Good ones, which are short, come again and are remembered.

    Raises:
        BadMessage: it is anything else.
    """
    match = HOST.fullmatch(host)
    if not match or (match[1] is not None and not 0 < int(match[1]) <= _PORT_MAX):
        raise BadMessage("a host that is none")


def _without_default_port(host: bytes) -> bytes:
    return host.lower().removesuffix(b":80")


def _read_manners(head: RequestHead, found: dict[bytes, bytes]) -> None:
    """What a client asks of the connection, of the answer's framing and of the moment to send its body."""
    named = _NO_WORDS
    if b"connection" in found:
        named = _read_connection(head, found[b"connection"], is_http10=head.is_http10)
    if b"te" in found:
        accepted = [each.partition(b";")[0].strip(b" \t").lower() for each in found[b"te"].split(b",")]
        head.accepts_trailers = b"trailers" in accepted and not head.is_http10
    if b"upgrade" in found and b"upgrade" in named and not head.is_http10 and head.length == 0:
        head.upgrade = _protocol(found)
    if b"expect" in found:
        if found[b"expect"].lower() != b"100-continue":
            raise BadMessage("an expectation other than 100-continue", status=417)
        head.expects_continue = head.length != 0 and not head.is_http10


def _read_connection(head: RequestHead | ResponseHead, value: bytes, *, is_http10: bool) -> frozenset[bytes]:
    """The words of a Connection field. What it names is for us alone (RFC 9110, 7.6.1), and leaves the head."""
    named = _COMMON.get(value) or _words(value)
    head.keep_alive = (not is_http10 or b"keep-alive" in named) and b"close" not in named
    fields = named - _NO_FIELDS
    if fields:
        head.headers = [field for field in head.headers if field[0].lower() not in fields]
    return named


def _words(value: bytes) -> frozenset[bytes]:
    """The words of a list, in lower case."""
    if not TOKENS.fullmatch(value):
        raise BadMessage("a connection field that is no list of words")
    return frozenset(each.strip(b" \t") for each in value.lower().split(b",")) - {b""}


def _protocol(found: dict[bytes, bytes]) -> bytes:
    """The one protocol to switch to; empty: none, or several, of which nobody knows which it will be."""
    asked = [each.strip(b" \t").lower() for each in found.get(b"upgrade", b"").split(b",")]
    fit = [each for each in asked if each and not each.startswith(_OTHER_HTTP)]
    return fit[0] if len(fit) == 1 else b""


def _interim(head: ResponseHead, found: dict[bytes, bytes], said: int | None, *, may_switch: bool) -> int:
    if said not in (None, 0):
        raise BadMessage("an answer of 1xx with a body")
    head.has_body = False
    if head.status != _SWITCHING_PROTOCOLS:
        return INTERIM
    head.upgrade = _protocol(found)
    if not may_switch or not head.upgrade:
        raise BadMessage("another protocol that nobody asked for")
    return SWITCHED


def _leave_out_body(head: ResponseHead, said: int | None) -> None:
    """HEAD and 304 may tell how long it would be; 204 has none, which some say by a length of 0."""
    if head.status == 204 and said not in (None, 0):
        raise BadMessage("an answer of 204 with a body")
    head.has_body = False
    if head.status != 204 and said != CHUNKED:
        head.said_length = said


_COMMON: Final = {value: _words(value) for value in (b"keep-alive", b"Keep-Alive", b"close", b"Upgrade", b"upgrade", b"TE")}
