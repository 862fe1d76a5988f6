"""What a worker and the supervisor say to each other: a few fixed-size messages on a SEQPACKET socket pair.

Fixed schemas on purpose: the supervisor is root and parses nothing else that comes from an unprivileged process.
First byte: kind. Descriptors travel beside a message by SCM_RIGHTS.
"""

import struct
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from nodeagent.errors import FrameError

Kind = Literal["outbound", "inbound", "tunnel"]
Family = Literal[4, 6]

# worker -> supervisor
WANT_SOCKETS = 1
WANT_OWNER = 2
PONG = 3
"""A beat: the answer to PING, with its number."""
READY = 4
"""A beat: it could serve. Number 1: and decides as well as those that serve; 0: it has no snapshot yet, or waits for keys.

Number 1 follows a snapshot when there are keys, too, or SVID_WAIT_S later: where there are none, it would wait for ever."""
DRAINED = 5
RENEW = 6
"""A beat: this worker has no channel to control. The answer is a CONTROL, soon if not at once."""
SERVING = 7
"""A beat: it accepts from the sockets of LISTEN."""
ORPHANED = 8
"""A beat, the first word on a LIFELINE: the supervisor of before is gone. Number: when this worker closes what it carries.

In whole seconds of the monotonic clock, as nobody knows when it is heard."""
# supervisor -> worker
SOCKETS = 17
OWNER = 18
PING = 19
"""A beat. Number: the millisecond of the monotonic clock at which it was asked, without what is beyond 32 bits (49 days).

An answer may be heard by another supervisor than asked, and long after it was given: it tells nothing of the time in between."""
UNIT = 20
DRAIN = 21
"""A beat: no new connections. Number: seconds until those that are left are closed; 0: that is told later."""
CONTROL = 22
"""A beat with one descriptor: the channel to control, which was started anew or asked for. Replaces the one that broke."""
LISTEN = 23
"""The listening sockets to accept from, as descriptors; for each a byte of its kind and one of its family."""
PAUSE = 24
"""A beat: the supervisor is about to replace itself, and answers late until its next PING."""
LIFELINE = 25
"""A beat with one descriptor: the channel to whoever is supervisor after this one's end. Replaces the one before."""

LISTENER_KINDS: tuple[Kind, ...] = ("outbound", "inbound", "tunnel")

MESSAGE_BYTES_MAX = 512
_UNIT_BYTES_MAX = 256

_SOCKETS = struct.Struct("=BB")  # kind, family (4 or 6)
_WANT_OWNER = struct.Struct("=BIB16sH16sH")  # kind, number, family, peer ip, peer port, listener ip, listener port
_OWNER = struct.Struct("=BIBi")  # kind, number, FOUND and KNOWS_UNIT, uid; then the unit's name
_FOUND, _KNOWS_UNIT = 1, 2
_UNIT = struct.Struct("=BI")  # kind, mark; then the unit's name
_BEAT = struct.Struct("=BI")  # kind, number
_NUMBER_MAX = 0xFFFFFFFF


class OwnerQuestion(NamedTuple):
    """Whose is the redirected connection from `peer` to our listener? Addresses in network form, 4 or 16 bytes."""

    number: int
    peer_ip: bytes
    peer_port: int
    listener_ip: bytes
    listener_port: int


class OwnerAnswer(NamedTuple):
    """What conntrack and sock_diag know. `uid` is -1 and `unit` empty where nothing may be believed."""

    number: int
    uid: int
    unit: str
    knows_unit: bool = True
    """Whether an empty `unit` means that it is in none; else nobody could tell."""


def encode_family(kind: int, family: int) -> bytes:
    """WANT_SOCKETS or SOCKETS for IP family 4 or 6."""
    return _SOCKETS.pack(kind, family)


def decode_family(data: bytes) -> int:
    """4 or 6, from WANT_SOCKETS or SOCKETS."""
    family: int = _unpack(_SOCKETS, data)[1]
    if family not in (4, 6):
        raise FrameError(f"address family {family}")
    return family


def encode_question(question: OwnerQuestion) -> bytes:
    """WANT_OWNER."""
    family = 4 if len(question.peer_ip) == 4 else 6
    return _WANT_OWNER.pack(
        WANT_OWNER, question.number, family, question.peer_ip, question.peer_port,
        question.listener_ip, question.listener_port,
    )  # fmt: skip


def decode_question(data: bytes) -> OwnerQuestion:
    """The question in WANT_OWNER."""
    _, number, family, peer_ip, peer_port, listener_ip, listener_port = _unpack(_WANT_OWNER, data)
    if family not in (4, 6):
        raise FrameError(f"address family {family}")
    size = 4 if family == 4 else 16
    return OwnerQuestion(number, peer_ip[:size], peer_port, listener_ip[:size], listener_port)


def encode_answer(answer: OwnerAnswer) -> bytes:
    """OWNER."""
    found = _FOUND if answer.unit or answer.uid >= 0 else 0
    flags = found | (_KNOWS_UNIT if answer.knows_unit else 0)
    return _OWNER.pack(OWNER, answer.number, flags, answer.uid) + _name(answer.unit)


def decode_answer(data: bytes) -> OwnerAnswer:
    """The answer in OWNER."""
    _, number, flags, uid = _unpack(_OWNER, data[: _OWNER.size])
    if flags & ~(_FOUND | _KNOWS_UNIT):
        raise FrameError(f"flags {flags:#x} of an answer")
    unit = _text(data[_OWNER.size :])
    if not flags & _FOUND or (uid < 0 and not unit):
        return OwnerAnswer(number, -1, "", knows_unit=False)
    return OwnerAnswer(number, max(uid, -1), unit, bool(flags & _KNOWS_UNIT))


def encode_unit(mark: int, unit: str) -> bytes:
    """UNIT: connections stamped with `mark` are this unit's; an empty name withdraws the mark."""
    return _UNIT.pack(UNIT, mark) + _name(unit)


def decode_unit(data: bytes) -> tuple[int, str]:
    """(mark, unit), from UNIT."""
    return _unpack(_UNIT, data[: _UNIT.size])[1], _text(data[_UNIT.size :])


def encode_listen(listeners: Iterable[tuple[Kind, Family]]) -> bytes:
    """LISTEN: what the descriptors beside it are, in their order."""
    return bytes([LISTEN, *(byte for kind, family in listeners for byte in (LISTENER_KINDS.index(kind), family))])


def decode_listen(data: bytes) -> list[tuple[Kind, Family]]:
    """(kind, family) of each descriptor, from LISTEN."""
    pairs = data[1:]
    if not data or len(pairs) % 2 or not set(pairs[::2]) <= {0, 1, 2} or not set(pairs[1::2]) <= {4, 6}:
        raise FrameError(f"listeners {pairs.hex()}")
    return [(LISTENER_KINDS[kind], 4 if family == 4 else 6) for kind, family in zip(pairs[::2], pairs[1::2], strict=True)]


def encode_beat(kind: int, number: int = 0) -> bytes:
    """PING, PONG, READY, SERVING, DRAIN, DRAINED, ORPHANED, RENEW, CONTROL, LIFELINE or PAUSE."""
    return _BEAT.pack(kind, number)


def decode_beat(data: bytes) -> int:
    """The number in a beat."""
    number: int = _unpack(_BEAT, data)[1]
    return number


def encode_ping(now: float) -> bytes:
    """PING, asked `now`."""
    return _BEAT.pack(PING, _milliseconds(now) & _NUMBER_MAX)


def decode_pong(data: bytes, now: float) -> float:
    """When that was asked which PONG answers; from a worker that makes numbers up, some instant before `now`."""
    age_ms = (_milliseconds(now) - decode_beat(data)) & _NUMBER_MAX
    return (_milliseconds(now) - age_ms) / 1000


def _milliseconds(instant: float) -> int:
    return round(instant * 1000)


def _name(unit: str) -> bytes:
    name = unit.encode()
    if len(name) > _UNIT_BYTES_MAX:
        raise FrameError(f"a unit name of {len(name)} bytes")
    return name


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise FrameError(f"a unit name that is no text: {name[:_UNIT_BYTES_MAX]!r}") from error


def _unpack(layout: struct.Struct, data: bytes) -> tuple[Any, ...]:
    try:
        return layout.unpack(data)
    except struct.error as error:
        raise FrameError(f"a request of {len(data)} bytes, kind {data[:1].hex()}") from error
