"""The two ends of a TCP connection, as conntrack and sock_diag write them.

Source: linux/netfilter/nfnetlink_conntrack.h, linux/inet_diag.h.
"""

import struct
from typing import NamedTuple

from redirect.netlink import NESTED, decode_attributes, encode_attribute

ADDRESS_FAMILY = {4: 2, 16: 10}  # AF_INET, AF_INET6 by the length of an address
_PORTS = struct.Struct(">HH")
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
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

    @property
    def turned(self) -> "Flow":
        """The other direction."""
        return Flow(self.dst, self.dport, self.src, self.sport)


def ends_of(row: bytes) -> Flow:
    """Of a row of sock_diag, which is long enough, its local end first. Mapped addresses are given as IPv4."""
    sport, dport = _PORTS.unpack_from(row, 4)
    src, dst = row[8:24], row[24:40]
    if row[0] == ADDRESS_FAMILY[4]:
        return Flow(src[:4], sport, dst[:4], dport)
    if src.startswith(_MAPPED) and dst.startswith(_MAPPED):
        return Flow(src[12:], sport, dst[12:], dport)
    return Flow(src, sport, dst, dport)


def encode_tuple(flow: Flow) -> bytes:
    """What an attribute for a tuple holds."""
    src_kind, dst_kind = _CTA_IP_SRC_DST[len(flow.src)]
    ips = encode_attribute(src_kind, flow.src) + encode_attribute(dst_kind, flow.dst)
    ports = (
        encode_attribute(_CTA_PROTO_NUM, _IPPROTO_TCP)
        + encode_attribute(_CTA_PROTO_SRC_PORT, struct.pack(">H", flow.sport))
        + encode_attribute(_CTA_PROTO_DST_PORT, struct.pack(">H", flow.dport))
    )
    return encode_attribute(_CTA_TUPLE_IP | NESTED, ips) + encode_attribute(_CTA_TUPLE_PROTO | NESTED, ports)


def decode_tuple(data: bytes) -> Flow | None:
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
