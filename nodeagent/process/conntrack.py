"""The tuple that a client dialled, from the tuple that arrived: one exact conntrack query by reply direction.

REDIRECT may rewrite the client's source port, and the rewritten port may be that of another workload's live connection;
only conntrack knows the original.
Source: linux/netfilter/nfnetlink_conntrack.h.
"""

import struct
from typing import NamedTuple

from nodeagent.process.netlink import NLA_F_NESTED, NetlinkSocket, decode_attributes, encode_attribute

NETLINK_NETFILTER = 12
_GET = (1 << 8) | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_NFGENMSG = struct.Struct(">BBH")  # family, version, resource id
_AF = {4: 2, 16: 10}  # AF_INET, AF_INET6 by the length of an address
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY = 1, 2
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_SRC_DST = {4: (1, 2), 16: (3, 4)}
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3
_IPPROTO_TCP = b"\x06"


class Flow(NamedTuple):
    """One direction of a TCP connection. Addresses in network form, 4 or 16 bytes."""

    src: bytes
    sport: int
    dst: bytes
    dport: int


def encode_query(reply: Flow) -> bytes:
    """The request for the entry whose reply direction is `reply`."""
    head = _NFGENMSG.pack(_AF[len(reply.src)], 0, 0)
    return head + encode_attribute(_CTA_TUPLE_REPLY | NLA_F_NESTED, _encode_tuple(reply))


def decode_original(body: bytes, reply: Flow) -> Flow | None:
    """The original direction in the kernel's answer; None unless the answer is about exactly `reply`."""
    attributes = decode_attributes(body[_NFGENMSG.size :])
    if _decode_tuple(attributes.get(_CTA_TUPLE_REPLY, b"")) != reply:
        return None
    return _decode_tuple(attributes.get(_CTA_TUPLE_ORIG, b""))


def find_original(netlink: NetlinkSocket, reply: Flow) -> Flow | None:
    """What the client dialled and from which port, for a connection whose answers go `reply`'s way.

    Raises:
        NetlinkError: the kernel could not say.
    """
    body = netlink.ask(_GET, encode_query(reply))
    return decode_original(body, reply) if body is not None else None


def _encode_tuple(flow: Flow) -> bytes:
    src_kind, dst_kind = _CTA_IP_SRC_DST[len(flow.src)]
    ips = encode_attribute(src_kind, flow.src) + encode_attribute(dst_kind, flow.dst)
    ports = (
        encode_attribute(_CTA_PROTO_NUM, _IPPROTO_TCP)
        + encode_attribute(_CTA_PROTO_SRC_PORT, struct.pack(">H", flow.sport))
        + encode_attribute(_CTA_PROTO_DST_PORT, struct.pack(">H", flow.dport))
    )
    return encode_attribute(_CTA_TUPLE_IP | NLA_F_NESTED, ips) + encode_attribute(_CTA_TUPLE_PROTO | NLA_F_NESTED, ports)


def _decode_tuple(data: bytes) -> Flow | None:
    """The flow in a nested tuple; None unless it is a whole TCP tuple of one family."""
    parts = decode_attributes(data)
    ips, ports = decode_attributes(parts.get(_CTA_TUPLE_IP, b"")), decode_attributes(parts.get(_CTA_TUPLE_PROTO, b""))
    sport, dport = ports.get(_CTA_PROTO_SRC_PORT, b""), ports.get(_CTA_PROTO_DST_PORT, b"")
    if ports.get(_CTA_PROTO_NUM) != _IPPROTO_TCP or len(sport) != 2 or len(dport) != 2:
        return None
    for size, (src_kind, dst_kind) in _CTA_IP_SRC_DST.items():
        src, dst = ips.get(src_kind, b""), ips.get(dst_kind, b"")
        if len(src) == len(dst) == size:
            return Flow(src, int.from_bytes(sport, "big"), dst, int.from_bytes(dport, "big"))
    return None
