"""Whose is a local TCP socket: one exact sock_diag query, and how much of the answer may be believed.

Source: linux/inet_diag.h, net/ipv4/inet_diag.c.
"""

import struct
import sys
from typing import NamedTuple

from nodeagent.process.netlink import NetlinkSocket
from redirect.flow import ADDRESS_FAMILY, Flow, ends_of
from redirect.netlink import decode_attributes

NETLINK_SOCK_DIAG = 4
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_IPPROTO_TCP = 6
_QUERY = struct.Struct("=BBBBI")  # family, protocol, extensions, padding, states
_PORTS = struct.Struct(">HH")
_ANY_INTERFACE_ANY_COOKIE = bytes(4) + b"\xff" * 8
_ROW_BYTES = 72  # family, state, ...; ports at 4, addresses at 8 and 24, uid at 64, inode at 68; then attributes
_CGROUP_ID = 21  # INET_DIAG_CGROUP_ID

_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT, _LAST_ACK, _CLOSING = 1, 4, 5, 8, 9, 11
_CONNECTED = frozenset({_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT, _LAST_ACK, _CLOSING})
_ROOT_CGROUP = 1  # also what every socket shows while net_cls or net_prio is in use: it names nobody


class Row(NamedTuple):
    """What the kernel says of one socket."""

    state: int
    uid: int
    inode: int
    cgroup_id: int
    """0 when the kernel named none."""


class Owner(NamedTuple):
    """What may be believed of a row: -1 and 0 stand for nothing."""

    uid: int
    cgroup_id: int


NOBODY = Owner(-1, 0)


def encode_query(flow: Flow) -> bytes:
    """The request for the one socket whose local end is `flow`'s source. The kernel reads no states here."""
    return (
        _QUERY.pack(ADDRESS_FAMILY[len(flow.src)], _IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
        + _PORTS.pack(flow.sport, flow.dport)
        + flow.src.ljust(16, b"\0")
        + flow.dst.ljust(16, b"\0")
        + _ANY_INTERFACE_ANY_COOKIE
    )


def decode_row(body: bytes, flow: Flow) -> Row | None:
    """The row in the kernel's answer; None unless it is about exactly `flow`.

    The comparison is what keeps a listening socket out, which the kernel offers where no connection matches.
    """
    listed = decode_listed(body)
    return listed.row if listed and listed.flow == flow else None


class Listed(NamedTuple):
    """One socket of a listing."""

    flow: Flow
    """Its local end first."""
    row: Row


def decode_listed(body: bytes) -> Listed | None:
    """A socket and its two ends; None for what is too short."""
    if len(body) < _ROW_BYTES:
        return None
    uid, inode = struct.unpack_from("=II", body, 64)
    cgroup = decode_attributes(body[_ROW_BYTES:]).get(_CGROUP_ID, b"")
    row = Row(body[1], uid, inode, int.from_bytes(cgroup, sys.byteorder) if len(cgroup) == 8 else 0)
    return Listed(ends_of(body), row)


def is_established(row: Row) -> bool:
    """Whether both ends are open."""
    return row.state == _ESTABLISHED


def believe(row: Row) -> Owner:
    """What of `row` proves who opened the connection.

    1) No connected state (TIME_WAIT, SYN_RECV, LISTEN, CLOSE): nothing. Their uid 0 is the kernel's "not known".
    2) A socket with a process: its uid and its cgroup.
    3) An orphan (connected, sent, closed; inode 0): the cgroup that the socket was born in, if the kernel still names
       it; the uid is no longer there. What became a time-wait row names none, and proves nothing.
    The root cgroup names nobody in any case.
    """
    if row.state not in _CONNECTED:
        return NOBODY
    cgroup_id = row.cgroup_id if row.cgroup_id != _ROOT_CGROUP else 0
    return Owner(row.uid if row.inode else -1, cgroup_id)


def find_row(netlink: NetlinkSocket, flow: Flow) -> Row | None:
    """The row of the socket whose local end is `flow`'s source; None where there is none.

    Raises:
        NetlinkError: the kernel could not say.
    """
    body = netlink.ask(_BY_FAMILY, encode_query(flow))
    return decode_row(body, flow) if body is not None else None
