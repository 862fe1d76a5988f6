"""Header fields on their way: what entries edit, what agents say of a request, and what nobody else may say."""

import functools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nodeagent import limits
from nodeagent.errors import Loop
from nodeagent.model.message import Headers, plain_name
from nodeagent.model.policy.values import HeaderEdits

HOPS_NAME = b"x-nodeagent-hops"
"""How many agents the request passed: a circle of applications that pass it on ends by it."""
CLIENT_CERT = b"x-forwarded-client-cert"
REQUEST_ID = b"x-request-id"
TRACE_PARENT = b"traceparent"
FORWARDED_FOR = b"x-forwarded-for"

_OURS = frozenset((CLIENT_CERT, REQUEST_ID, TRACE_PARENT, FORWARDED_FOR, HOPS_NAME))
_DROPPED = _OURS | {b"forwarded"}
_OUR_PREFIXES = (b"x-spiffe-", b"x-mesh-", b"x-nodeagent-")
_FRAMING = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer",
     b"upgrade", b"expect")
)  # fmt: skip
_UNEDITABLE = _FRAMING | {CLIENT_CERT, b"forwarded", HOPS_NAME}

_TWIN = b"_"
_SHORT = 64
"""Names that are longer are not remembered: whoever made many of them would have us keep them."""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_HOP_COUNT = re.compile(rb"[0-9]{1,3}")


# --- edits of entries ----------------------------------------------------------------------------------------------


class Edits(NamedTuple):
    """Edits made ready: in this order removed, set, added."""

    removed: frozenset[bytes] = frozenset()
    """In lower case: those that are set are among them."""
    put: tuple[tuple[bytes, bytes], ...] = ()


NO_EDITS = Edits()


def edits_of(said: Iterable[HeaderEdits | None]) -> Edits:
    """Edits of several entries as one, in their order: what a later one sets or removes, an earlier one has not added.

    Names that are no names, values that would end a line, and fields of framing, of routing and of identity are left out.
    """
    removed: set[bytes] = set()
    put: list[tuple[bytes, bytes]] = []
    for edits in filter(None, said):
        gone = {name.lower().encode() for name in (*edits.remove, *edits.set_)}
        gone = {name for name in gone if is_editable(name)}
        put = [pair for pair in put if pair[0].lower() not in gone]
        put += _sound((*edits.set_.items(), *edits.add.items()))
        removed |= gone
    return Edits(frozenset(removed), tuple(put))


def edited(headers: Headers, edits: Edits) -> Headers:
    """The fields after the edits; the very same list where there are none."""
    if not edits.removed:
        return [*headers, *edits.put] if edits.put else headers
    return [*(field for field in headers if field[0].lower() not in edits.removed), *edits.put]


def is_editable(name: bytes) -> bool:
    """Whether entries may say anything about the field. name: in lower case."""
    plain = plain_name(name)
    return _TOKEN.fullmatch(name) is not None and plain not in _UNEDITABLE and not plain.startswith(_OUR_PREFIXES)


def _sound(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[bytes, bytes]]:
    for name, value in pairs:
        field = (name.encode(), value.strip(" \t").encode())
        if is_editable(field[0].lower()) and _VALUE.fullmatch(field[1]):
            yield field


# --- what agents say -----------------------------------------------------------------------------------------------


class Ids(NamedTuple):
    """Names for a request that has none yet: made by chance, by the caller's agent."""

    request: bytes
    """For `x-request-id`."""
    trace: bytes
    """32 digits of lower-case hex."""
    span: bytes
    """16 of them."""


class Caller(NamedTuple):
    """Who calls, as the callee's agent knows it: from a certificate, or on one host from the kernel."""

    own_uri: bytes
    """SPIFFE ID of the service that is called."""
    uri: bytes
    """SPIFFE ID of the caller; empty: nobody knows."""
    certificate_hash: bytes = b""
    """SHA-256 of the caller's certificate in hex; empty: there was none."""


class Told(NamedTuple):
    """What a request's fields said of it."""

    others: Headers
    """All that are not told here."""
    request_id: bytes
    """Empty: none, or none that is well formed."""
    trace_parent: bytes
    """The same."""
    hops: int
    forwarded_for: bytes


def read_told(headers: Headers) -> Told:
    """The fields of which agents say more, apart from the others; what only agents may say is dropped, with its underscore twins.

    A count of hops is believed of anyone: one that is too low is as none, and one that is too high harms who says it.
    """
    others: Headers = []
    found: dict[bytes, list[bytes]] = {}
    for field in headers:
        kind = _kind(field[0]) if len(field[0]) <= _SHORT else _kind_of(field[0])
        if not kind:
            others.append(field)
        elif kind != _TWIN:
            found.setdefault(kind, []).append(field[1])
    trace = _only(found, TRACE_PARENT, _TRACE)
    if not trace and TRACE_PARENT in found:  # W3C Trace Context 3.2.2.5: what belongs to it goes with it
        others = [field for field in others if field[0].lower() != b"tracestate"]
    hops = [int(value) for value in found.get(HOPS_NAME, ()) if _HOP_COUNT.fullmatch(value)]
    return Told(others, _only(found, REQUEST_ID, _ID), trace, max(hops, default=0), b", ".join(found.get(FORWARDED_FOR, ())))


def _kind_of(name: bytes) -> bytes:
    """Which of our fields it is, in lower case; `_TWIN`: one that is dropped; nothing: another's."""
    lowered = name.lower()
    if lowered in _OURS:
        return lowered
    plain = plain_name(name)
    return _TWIN if plain in _DROPPED or plain.startswith(_OUR_PREFIXES) else b""


@functools.lru_cache(maxsize=limits.HEADER_NAMES_KEPT)
def _kind(name: bytes) -> bytes:
    """The same, remembered. name: a short one."""
    return _kind_of(name)


def _only(found: dict[bytes, list[bytes]], name: bytes, form: re.Pattern[bytes]) -> bytes:
    values = found.get(name, ())
    return values[0] if len(values) == 1 and form.fullmatch(values[0]) else b""


def for_agent(told: Told, ids: Ids) -> Headers:
    """What the caller's agent sends to the callee's: the request has its names from here on.

    Raises:
        Loop: it passed too many agents.
    """
    return [*told.others, *_named(told, ids), *_if_any(FORWARDED_FOR, told.forwarded_for), *_if_any(HOPS_NAME, _count(told.hops))]


def for_application(told: Told, ids: Ids, caller: Caller, client_ip: bytes) -> Headers:
    """What the callee's agent hands to the application: who calls, from where, and over how many agents.

    client_ip: of the host that calls.

    Raises:
        Loop: it passed too many agents.
    """
    hops = told.hops + 1
    came_from = told.forwarded_for + b", " + client_ip if told.forwarded_for else client_ip
    return [
        *told.others,
        *_named(told, ids),
        (FORWARDED_FOR, came_from),
        *_if_any(CLIENT_CERT, client_certificate(caller)),
        (HOPS_NAME, _count(hops)),
    ]


def client_certificate(caller: Caller) -> bytes:
    """The caller in Envoy's form; empty: nobody knows who it is."""
    if not caller.uri:
        return b""
    by_hash = b";Hash=" + caller.certificate_hash if caller.certificate_hash else b""
    return b"By=" + caller.own_uri + by_hash + b";URI=" + caller.uri


def _named(told: Told, ids: Ids) -> Headers:
    trace = told.trace_parent or b"00-" + ids.trace + b"-" + ids.span + b"-00"
    return [(REQUEST_ID, told.request_id or ids.request), (TRACE_PARENT, trace)]


def _count(hops: int) -> bytes:
    if hops > limits.REQUEST_HOPS:
        raise Loop(f"the request passed {limits.REQUEST_HOPS} agents: applications seem to pass it on in a circle")
    return b"%d" % hops if hops else b""


def _if_any(name: bytes, value: bytes) -> Headers:
    return [(name, value)] if value else []
