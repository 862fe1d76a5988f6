"""Connections to this agent that no process has accepted yet: which they are, and how one is ended.

Clients think that they are connected, and wait; where nobody accepts any more they would wait for ever. Which listener they wait
for the kernel does not tell, so each must prove that it is ours: the cgroup of a socket is that of its listener.

Source: linux/inet_diag.h, net/ipv4/inet_diag.c, net/ipv4/tcp.c (tcp_abort).
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable
from typing import NamedTuple

from nodeagent import limits
from redirect.netlink import decode_attributes, open_netlink, order
from redirect.sockets import LISTEN

_ESTABLISHED, _CLOSE_WAIT = 1, 8
"""The states of a socket that waits: its client is there, or has finished already. Who has closed one is in neither."""
_STATE, _ID, _UID, _INODE, _ROW_BYTES = 1, slice(4, 52), slice(64, 68), slice(68, 72), 72
_NOBODYS = bytes(4)
"""The inode of a socket that no process has, nor had."""
_ENDS = struct.Struct(">H2x16s")  # of an id: local port, local address
_CGROUP_ID, _OPTIONS = 21, 22  # INET_DIAG_CGROUP_ID, INET_DIAG_SOCKOPT
_TRANSPARENT = 0x20  # of the first byte of _OPTIONS
_NO_CGROUPS = frozenset((b"", bytes(8), (1).to_bytes(8, sys.byteorder)))
"""None, and the root: everybody may be there."""
_PLACES = frozenset(
    (family, port, socket.inet_pton(family, address).ljust(16, b"\0"))
    for family, loopback, wildcard in ((socket.AF_INET, "127.0.0.1", "0.0.0.0"), (socket.AF_INET6, "::1", "::"))  # noqa: S104 - a place to look for
    for port, address in ((limits.OUTBOUND_PORT, loopback), (limits.INBOUND_PORT, loopback), (limits.TUNNEL_PORT, wildcard))
)
"""Where our listeners are: as in `process/listeners`."""

_SOCK_DIAG, _DESTROY = 4, 21  # netlink protocol; SOCK_DESTROY
_QUERY = struct.Struct("=BBBBI48s")  # family, protocol, extensions, padding, states, id


class Unaccepted(NamedTuple):
    """One of them, by the kernel's own name: no other socket gets it."""

    family: int
    id: bytes
    """Ports, addresses, interface and cookie."""


def find_unaccepted(rows: Iterable[bytes]) -> frozenset[Unaccepted]:
    """Those in a listing (`redirect.sockets.read_rows`) that wait for a listener of this agent.

    Redirected and tunnel connections have one of our ports. What came by TPROXY has the port and address of an application,
    but the transparency and the cgroup of our listener. An application's own queue has neither cgroup.
    """
    homes: set[bytes] = set()
    waiting: list[bytes] = []
    for row in rows:
        if len(row) < _ROW_BYTES:
            continue
        if row[_STATE] == LISTEN:
            homes |= {_cgroup(row)} if _is_our_listener(row) else set()
        elif row[_INODE] == _NOBODYS and row[_STATE] in (_ESTABLISHED, _CLOSE_WAIT) and _may_be_ours(row):
            waiting.append(row)
    homes -= _NO_CGROUPS
    return frozenset(Unaccepted(row[0], row[_ID]) for row in waiting if _cgroup(row) in homes)


def is_agent_listening(rows: Iterable[bytes]) -> bool:
    """Whether a listing has a listener of an agent: else nobody can wait for one."""
    return any(row[_STATE] == LISTEN and _is_our_listener(row) for row in rows if len(row) >= _ROW_BYTES)


def open_diag() -> socket.socket:
    """For `end`.

    Raises:
        OSError: no descriptor is left.
    """
    return open_netlink(_SOCK_DIAG)


def end(diag: socket.socket, each: Unaccepted) -> bool:
    """Resets the connection, as its client sees at once; whether it was there still.

    Raises:
        OSError: the kernel refused; EOPNOTSUPP: it was built without that (CONFIG_INET_DIAG_DESTROY).
    """
    body = _QUERY.pack(each.family, socket.IPPROTO_TCP, 0, 0, 0xFFFF_FFFF, each.id)
    try:
        order(diag, _DESTROY, body)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        return False
    return True


def can_end(diag: socket.socket, family: int = socket.AF_INET) -> bool:
    """Whether this kernel can: it is asked to end what is not there.

    Raises:
        OSError: it refused for another reason.
    """
    try:
        end(diag, Unaccepted(family, bytes(48)))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False
    return True


def _is_our_listener(row: bytes) -> bool:
    """Whether it listens where only an agent's does: who else may share these ports (SO_REUSEPORT) has the same user, root."""
    return (row[0], *_ENDS.unpack_from(row, _ID.start)) in _PLACES and row[_UID] == os.getuid().to_bytes(4, sys.byteorder)


def _may_be_ours(row: bytes) -> bool:
    port, _ = _ENDS.unpack_from(row, _ID.start)
    return port in (limits.OUTBOUND_PORT, limits.TUNNEL_PORT) or _is_transparent(row)


def _is_transparent(row: bytes) -> bool:
    options = decode_attributes(row[_ROW_BYTES:]).get(_OPTIONS, b"")
    return bool(options[:1] and options[0] & _TRANSPARENT)


def _cgroup(row: bytes) -> bytes:
    return decode_attributes(row[_ROW_BYTES:]).get(_CGROUP_ID, b"")
