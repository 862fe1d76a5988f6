"""The head of a tunnelled connection: a CONNECT request and its answer, with HBONE's meaning of the statuses; and its untimely end.

200 comes only after the application was reached; 401 policy, 503 connect failure, 400 bad destination.
"""

from typing import NamedTuple
from urllib.parse import quote, unquote

from nodeagent import limits
from nodeagent.errors import (
    AgentError,
    BadDestination,
    Denied,
    LimitReached,
    Loop,
    PeerRefused,
    PolicyChanged,
    Reason,
    Revoked,
    UpstreamRefused,
    UpstreamTimeout,
)
from nodeagent.model.address import Address, parse_address
from nodeagent.wire.peer_text import printable
from nodeagent.wire.stream import Headers

_HOPS = b"nodeagent-hops"
_REASON = b"nodeagent-reason"
_DETAIL = b"nodeagent-detail"
_PLAIN = " !#$&'()*+,/:;<=>?@[]^`{|}"
"""Kept as they are in a detail. The library that writes headers checks none: a line end must not get there."""

_STATUS = {
    Reason.DENIED: b"401",
    Reason.UNIDENTIFIED: b"401",
    Reason.BAD_DESTINATION: b"400",
    Reason.LOOP: b"400",
}
_BY_STATUS: dict[int, type[AgentError]] = {401: Denied, 400: BadDestination, 503: UpstreamRefused}
_BY_REASON: dict[str, type[AgentError]] = {
    Reason.LOOP: Loop, Reason.LIMIT: LimitReached, Reason.UPSTREAM_TIMEOUT: UpstreamTimeout,
}  # fmt: skip

RESET_CODES = {Reason.POLICY_CHANGED: 0x6E61_0001, Reason.REVOKED: 0x6E61_0002, Reason.LIMIT: 0x6E61_0003}
"""RST_STREAM codes of ours for connections that an agent ends: to whoever does not know them a reset like any other.

Source: RFC 9113 section 7, unknown error codes; nobody else's are near "na".
"""


class Connect(NamedTuple):
    """What the caller's agent asks for."""

    authority: Address
    hops: int


def request_headers(authority: Address) -> Headers:
    """The CONNECT for a connection that a local workload opened."""
    return [(b":method", b"CONNECT"), (b":authority", str(authority).encode()), (_HOPS, b"1")]


def read_request(headers: Headers) -> Connect:
    """What a peer's stream asks for.

    Raises:
        BadDestination: not a CONNECT, not to an address, or malformed (no headers).
        Loop: it has passed more agents than it may.
    """
    if not headers:
        raise BadDestination("the stream's head is malformed HTTP/2; a CONNECT has one :method, one :authority, and neither is empty")
    fields = dict(headers)
    if fields.get(b":method") != b"CONNECT" or len(fields) != len(headers):
        raise BadDestination("the stream is not a plain CONNECT")
    try:
        authority = parse_address(fields.get(b":authority", b"").decode("ascii"))
        hops = int(_digits(fields.get(_HOPS, b"1")))
    except ValueError as error:
        raise BadDestination(f"a CONNECT that cannot be read: {error}") from error
    if hops > limits.HOPS:
        raise Loop(f"the connection to {authority} has passed {hops} agents; are two hosts pointing at each other?")
    return Connect(authority, hops)


def success_headers() -> Headers:
    """The application was reached."""
    return [(b":status", b"200")]


def refusal_headers(error: AgentError) -> Headers:
    """Why not: the status of HBONE, the reason's name from a closed set, and for people the sentence, percent-encoded.

    The peer has proved who it is, and hears of nothing but its own call. What a defect of ours says stays here.
    """
    headers = [(b":status", _STATUS.get(error.reason, b"503")), (_REASON, error.reason.encode())]
    detail = "" if error.reason is Reason.INTERNAL else quote(str(error)[: limits.DETAIL_CHARS], safe=_PLAIN)
    return [*headers, (_DETAIL, detail.encode())] if detail else headers


def read_answer(headers: Headers) -> None:
    """Returns if the callee's agent reached the application.

    Raises:
        AgentError: Denied for 401, BadDestination for 400, UpstreamRefused for 503 and its kin, else PeerRefused.
    """
    fields = dict(headers)
    try:
        status = int(_digits(fields.get(b":status", b"0")))
    except ValueError as error:
        raise PeerRefused(f"the callee's agent answered with a status that cannot be read: {error}") from error
    if status == 200:
        return
    reason = fields.get(_REASON, b"").decode("ascii", "replace")
    known = _BY_REASON.get(reason) or _BY_STATUS.get(status, PeerRefused)
    named = f" ({reason})" if reason in list(Reason) else ""
    raise known(f"the callee's agent refused with status {status}{named}{_read_detail(fields.get(_DETAIL, b''))}")


def read_reset(code: int) -> AgentError | None:
    """Why the other agent says that it ended a stream; None where it does not say."""
    if code == RESET_CODES[Reason.POLICY_CHANGED]:
        return PolicyChanged("the agent at the other end ended it: a change of policy there denies it")
    if code == RESET_CODES[Reason.REVOKED]:
        return Revoked("the agent at the other end ended it: it relies on a certificate of the tunnel no more")
    if code == RESET_CODES[Reason.LIMIT]:
        return LimitReached("the agent at the other end ended it: it held too much for slow readers")
    return None


def _read_detail(field: bytes) -> str:
    """What the peer says of its refusal, fit for a log: printable, and not long."""
    text = printable(unquote(field[: 3 * limits.DETAIL_CHARS].decode("ascii", "replace")))
    return f": {text}" if text else ""


def _digits(text: bytes) -> str:
    """ASCII digits only: int() alone would take signs, blanks and underscores."""
    if not text.isdigit() or len(text) > 9:
        raise ValueError(f"{text[:20]!r} is not a number")
    return text.decode()
