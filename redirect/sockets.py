"""TCP sockets of this network namespace that still need what apply installed.

By a netlink dump of our own. pyroute2's DiagSocket takes a listing that the kernel refuses for an empty one, and
`remove` would tear open connections then; it also needs 1.4 s for 16,000 sockets where this needs 0.05 s.
"""

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from redirect.errors import RedirectError

_TIME_WAIT, _CLOSE, LISTEN = 6, 7, 10  # states by the kernel's numbers
_STATES = 0xFFF & ~(1 << _TIME_WAIT | 1 << _CLOSE)
_REQUEST = struct.Struct("=BBBBI48x")  # family, protocol, extensions, padding, states; then an empty socket id
_ROW = struct.Struct(">xBxxH66x")  # state, local port; then what is not needed here
_MARK = 15  # attribute; sent to whoever has CAP_NET_ADMIN

_SOCK_DIAG, _BY_FAMILY = 4, 20  # netlink protocol, message type
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3
_ERRNO_MAX = 4095  # linux/err.h, MAX_ERRNO
_HEAD = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_NUMBER, _CODE = struct.Struct("=I"), struct.Struct("=i")
_ANSWER_BYTES = 65_536  # the kernel sends at most 32 KiB of a dump at once
_ANSWER_S = 5.0  # it answers within the call that sends; this only bounds a defect


class TcpSocket(NamedTuple):
    """One end of a TCP connection, or a listener."""

    local_port: int
    state: int
    mark: int


class Dependents(NamedTuple):
    """What would break without the keeper and the return path."""

    connections: int
    is_agent_listening: bool


def read_sockets() -> tuple[TcpSocket, ...]:
    """Every TCP socket but those in time-wait, IPv4 and IPv6.

    Raises:
        RedirectError: the kernel refused.
    """
    try:
        return tuple(decode_socket(row) for row in read_rows())
    except OSError as error:
        raise RedirectError(f"open TCP sockets cannot be listed: {error}") from error


def read_rows() -> Iterator[bytes]:
    """The kernel's words on every TCP socket but those in time-wait, IPv4 and IPv6. One look at each, not at one instant.

    Raises:
        RedirectError: the kernel refused.
    """
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            yield from _dump(family)
    except OSError as error:
        raise RedirectError(f"open TCP sockets cannot be listed: {error.strerror or error}") from error


def find_dependents(sockets: Iterable[TcpSocket], *, outbound_port: int, tunnel_port: int, mark: int) -> Dependents:
    """Redirected connections, source-preserving ones, and whether an agent could still make more of them."""
    sockets = tuple(sockets)
    connections = [s for s in sockets if s.state != LISTEN and (s.local_port == outbound_port or s.mark == mark)]
    return Dependents(len(connections), any(s.state == LISTEN and s.local_port == tunnel_port for s in sockets))


def decode_socket(body: bytes) -> TcpSocket:
    """One row of the listing.

    Raises:
        OSError: it is cut off.
    """
    if len(body) < _ROW.size:
        raise OSError(f"a row of {len(body)} bytes about a socket")
    state, port = _ROW.unpack_from(body)
    return TcpSocket(port, state, _mark_in(body[_ROW.size :]))


def split_rows(data: bytes) -> tuple[list[bytes], bool]:
    """The rows in what one receive gave, and whether they were the last.

    Raises:
        OSError: the kernel refused, or what came is no netlink message.
    """
    rows: list[bytes] = []
    while len(data) >= _HEAD.size:
        length, kind = _HEAD.unpack_from(data)[:2]
        if not _HEAD.size <= length <= len(data):
            raise OSError(f"a netlink message of {len(data)} bytes says it has {length}")
        body, data = data[_HEAD.size : length], data[(length + 3) & ~3 :]
        if kind in (_ERROR, _DONE):
            _raise_refusal(body)
            return rows, True
        rows.append(body)
    return rows, False


def _dump(family: int) -> Iterator[bytes]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as sock:
        sock.settimeout(_ANSWER_S)
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES)
        sock.send(_HEAD.pack(_HEAD.size + len(body), _BY_FAMILY, _DUMP, 0, 0) + body)
        is_last = False
        while not is_last:
            rows, is_last = split_rows(sock.recv(_ANSWER_BYTES))
            yield from rows


def _raise_refusal(body: bytes) -> None:
    """The end of a listing, too, carries zero or a negative errno."""
    code = -_CODE.unpack_from(body)[0] if len(body) >= _CODE.size else 0
    if code:
        raise OSError(code, os.strerror(code) if 0 < code <= _ERRNO_MAX else f"error {code}")


def _mark_in(attributes: bytes) -> int:
    """0 if there is none, as for a socket without a mark."""
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        if not _ATTRIBUTE.size <= length <= len(attributes):
            break
        if (kind, length) == (_MARK, _ATTRIBUTE.size + _NUMBER.size):
            return int(_NUMBER.unpack_from(attributes, _ATTRIBUTE.size)[0])
        attributes = attributes[(length + 3) & ~3 :]
    return 0
