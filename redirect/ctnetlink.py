"""Questions to connection tracking about one entry, and what its answer holds.

Source: linux/netfilter/nfnetlink_conntrack.h.
"""

import struct

from redirect.flow import ADDRESS_FAMILY, Flow, decode_tuple, encode_tuple
from redirect.netlink import NESTED, decode_attributes, encode_attribute

NETFILTER = 12
"""The protocol of the socket."""
GET, DELETE = (1 << 8) | 1, (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
ORIGINAL, REPLY, ID = 1, 2, 12  # CTA_*
_NFGENMSG = struct.Struct(">BBH")  # family, version, resource id


def encode_name(direction: int, flow: Flow) -> bytes:
    """Names the entry of which this direction, ORIGINAL or REPLY, is `flow`."""
    head = _NFGENMSG.pack(ADDRESS_FAMILY[len(flow.src)], 0, 0)
    return head + encode_attribute(direction | NESTED, encode_tuple(flow))


def decode_entry(body: bytes) -> tuple[Flow | None, Flow | None, bytes]:
    """Both directions of an entry, the original one first, each None unless it is whole; and the entry's number, or nothing."""
    attributes = decode_attributes(body[_NFGENMSG.size :])
    original, reply = (decode_tuple(attributes.get(kind, b"")) for kind in (ORIGINAL, REPLY))
    return original, reply, attributes.get(ID, b"")
