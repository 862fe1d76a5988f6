"""The tuple that a client dialled, from the tuple that arrived: one exact conntrack query by reply direction.

REDIRECT may rewrite the client's source port, and the rewritten port may be that of another workload's live connection;
only conntrack knows the original.
Source: linux/netfilter/nfnetlink_conntrack.h.
"""

import struct

from nodeagent.process.netlink import NetlinkSocket
from redirect.flow import ADDRESS_FAMILY, Flow, decode_tuple, encode_tuple
from redirect.netlink import NESTED, decode_attributes, encode_attribute

NETLINK_NETFILTER = 12
_GET = (1 << 8) | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_NFGENMSG = struct.Struct(">BBH")  # family, version, resource id
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY = 1, 2


def encode_query(reply: Flow) -> bytes:
    """The request for the entry whose reply direction is `reply`."""
    head = _NFGENMSG.pack(ADDRESS_FAMILY[len(reply.src)], 0, 0)
    return head + encode_attribute(_CTA_TUPLE_REPLY | NESTED, encode_tuple(reply))


def decode_original(body: bytes, reply: Flow) -> Flow | None:
    """The original direction in the kernel's answer; None unless the answer is about exactly `reply`."""
    attributes = decode_attributes(body[_NFGENMSG.size :])
    if decode_tuple(attributes.get(_CTA_TUPLE_REPLY, b"")) != reply:
        return None
    return decode_tuple(attributes.get(_CTA_TUPLE_ORIG, b""))


def find_original(netlink: NetlinkSocket, reply: Flow) -> Flow | None:
    """What the client dialled and from which port, for a connection whose answers go `reply`'s way.

    Raises:
        NetlinkError: the kernel could not say.
    """
    body = netlink.ask(_GET, encode_query(reply))
    return decode_original(body, reply) if body is not None else None
