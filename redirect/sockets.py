"""TCP sockets of this network namespace that still need what apply installed.

By a netlink dump of our own. pyroute2's DiagSocket takes a listing that the kernel refuses for an empty one, and
`remove` would tear open connections then; it also needs 1.4 s for 16,000 sockets where this needs 0.05 s.
"""

import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from redirect.errors import RedirectError
from redirect.netlink import decode_attributes, dump

_TIME_WAIT, _CLOSE, LISTEN = 6, 7, 10  # states by the kernel's numbers
_STATES = 0xFFF & ~(1 << _TIME_WAIT | 1 << _CLOSE)
_REQUEST = struct.Struct("=BBBBI48x")  # family, protocol, extensions, padding, states; then an empty socket id
_ROW = struct.Struct(">xBxxH66x")  # state, local port; then what is not needed here
_MARK = 15  # attribute; sent to whoever has CAP_NET_ADMIN

_SOCK_DIAG, _BY_FAMILY = 4, 20  # netlink protocol, message type
_NUMBER = struct.Struct("=I")


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
            yield from dump(_SOCK_DIAG, _BY_FAMILY, _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES))
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
    mark = decode_attributes(body[_ROW.size :]).get(_MARK, b"")  # none: a socket without a mark
    return TcpSocket(port, state, _NUMBER.unpack(mark)[0] if len(mark) == _NUMBER.size else 0)
