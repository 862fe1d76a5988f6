"""What connection tracking remembers of redirected connections that have ended.

An entry outlives its connection by two minutes. While no rules follow packets, nobody sees that a new connection has taken
the same ports: with the next rules it would be redirected in its midst, and reset.

Source: linux/netfilter/nfnetlink_conntrack.h, linux/netfilter/nf_conntrack_common.h.
"""

import errno
import socket
import struct
from collections.abc import Collection, Iterable, Iterator

from redirect.flow import ADDRESS_FAMILY, decode_tuple, ends_of
from redirect.netlink import NESTED, decode_attributes, dump, encode_attribute, open_netlink, order
from redirect.sockets import read_rows

_NETFILTER = 12
_GET, _DELETE = (1 << 8) | 1, (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
_NFGENMSG = struct.Struct(">BBH")  # family, version, resource id
_ORIGINAL, _REPLY, _STATUS, _ID, _ZONE, _STATUS_MASK = 1, 2, 3, 12, 18, 26  # CTA_*
_TRANSLATED = struct.pack(">I", 1 << 5)  # IPS_DST_NAT
_ASKED = encode_attribute(_STATUS, _TRANSLATED) + encode_attribute(_STATUS_MASK, _TRANSLATED)  # a kernel before 5.15 gives all


def forget_redirected(ports: Collection[int]) -> int:
    """Has the kernel forget what was redirected to one of these ports and is not open any more; how many that were.

    To be called while nothing is redirected to them.

    Raises:
        OSError: the kernel refused; it may have no ctnetlink.
    """
    live = {flow for row in read_rows() if (flow := ends_of(row)).sport in ports}
    entries = [row for family in ADDRESS_FAMILY.values() for row in dump(_NETFILTER, _GET, _NFGENMSG.pack(family, 0, 0) + _ASKED)]
    with open_netlink(_NETFILTER) as sock:
        return sum(_forget(sock, name) for name in find_stale(entries, ports, live))


def find_stale(entries: Iterable[bytes], ports: Collection[int], live: Collection[object]) -> Iterator[bytes]:
    """The names of those entries whose answers come from one of these ports, and not from there where they were dialled.

    live: flows of the sockets that are open, their local end first.
    """
    for entry in entries:
        attributes = decode_attributes(entry[_NFGENMSG.size :])
        original, reply = (decode_tuple(attributes.get(kind, b"")) for kind in (_ORIGINAL, _REPLY))
        if original and reply and reply.sport in ports and reply != original.turned and reply not in live:
            yield entry[: _NFGENMSG.size] + encode_attribute(_ORIGINAL | NESTED, attributes[_ORIGINAL]) + b"".join(
                encode_attribute(kind, attributes[kind]) for kind in (_ID, _ZONE) if kind in attributes
            )


def _forget(sock: socket.socket, name: bytes) -> bool:
    """Whether it was there still."""
    try:
        order(sock, _DELETE, name)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True
