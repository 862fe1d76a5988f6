"""Whether an address is this host's own: what the kernel's routes say of it, as anything may be bound with `ip_nonlocal_bind`.

Source: linux/rtnetlink.h.
"""

import errno
import ipaddress
import socket
import struct

_HEAD = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ROUTE = struct.Struct("=8BI")  # family, lengths of destination and source, tos, table, protocol, scope, type; flags
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_NEWROUTE, _GETROUTE = 24, 26
_REQUEST, _DESTINATION, _LOCAL = 1, 1, 2
_ANSWER_BYTES = 16_384  # a route has some hundred
_ANSWER_S = 1.0  # it answers within the call that sends; this only bounds a defect


def check_own(ip: str) -> None:
    """Nothing, where what is sent to `ip` stays on this host.

    Raises:
        OSError: it would leave it, or means no one machine.
    """
    address = ipaddress.ip_address(ip)
    if getattr(address, "scope_id", None) or address.is_unspecified or address.is_link_local or address.is_multicast:
        raise OSError(errno.EADDRNOTAVAIL, f"{ip} is no address of one host")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    if not is_local_route(_ask(family, address.packed)):
        raise OSError(errno.EADDRNOTAVAIL, f"{ip} is not this host's")


def is_local_route(answer: bytes) -> bool:
    """Whether the kernel's answer is a route to this host itself."""
    if len(answer) < _HEAD.size + _ROUTE.size or _HEAD.unpack_from(answer)[1] != _NEWROUTE:
        return False  # an error: there is no route
    return bool(_ROUTE.unpack_from(answer, _HEAD.size)[7] == _LOCAL)


def _ask(family: int, packed: bytes) -> bytes:
    destination = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(packed), _DESTINATION) + packed
    body = _ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0) + destination
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_ANSWER_S)
        sock.send(_HEAD.pack(_HEAD.size + len(body), _GETROUTE, _REQUEST, 1, 0) + body)
        return sock.recv(_ANSWER_BYTES)
