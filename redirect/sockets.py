"""TCP sockets of this network namespace that still need what apply installed."""

import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from redirect.errors import RedirectError
from redirect.netlink import DUMP, SOCK_DIAG, decode_numbers, exchange

_TIME_WAIT, _CLOSE, LISTEN = 6, 7, 10  # states by the kernel's numbers
_STATES = 0xFFF & ~(1 << _TIME_WAIT | 1 << _CLOSE)
_BY_FAMILY = 20  # message type
_REQUEST = struct.Struct("=BBBBI48x")  # family, protocol, extensions, padding, states; then an empty socket id
_ROW = struct.Struct(">xBxxH66x")  # state, local port; then what is not needed here
_MARK = 15  # attribute; sent to whoever has CAP_NET_ADMIN


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
    """Every TCP socket but those in time-wait, IPv4 and IPv6."""
    requests = [
        _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES) for family in (socket.AF_INET, socket.AF_INET6)
    ]
    try:
        return tuple(decode_socket(row) for body in requests for row in exchange(SOCK_DIAG, _BY_FAMILY, DUMP, body))
    except OSError as error:
        raise RedirectError(f"open TCP sockets cannot be listed: {error.strerror}") from error


def decode_socket(body: bytes) -> TcpSocket:
    """One row of the listing."""
    state, port = _ROW.unpack_from(body)
    return TcpSocket(port, state, decode_numbers(body[_ROW.size :]).get(_MARK, 0))


def find_dependents(sockets: Iterable[TcpSocket], *, outbound_port: int, tunnel_port: int, mark: int) -> Dependents:
    """Redirected connections, source-preserving ones, and whether an agent could still make more of them."""
    sockets = tuple(sockets)
    connections = [s for s in sockets if s.state != LISTEN and (s.local_port == outbound_port or s.mark == mark)]
    return Dependents(len(connections), any(s.state == LISTEN and s.local_port == tunnel_port for s in sockets))
