"""Named sets of the iptables backend in the kernel, by pyroute2; what they are called and hold is decided elsewhere."""

import errno
import socket
import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from redirect.errors import REMOVED, RedirectError
from redirect.iptables_lines import IpSet
from redirect.netlink import NESTED, encode_attribute, open_netlink, order
from redirect.rtnetlink import use_ipset

_AF = {4: socket.AF_INET, 6: socket.AF_INET6}
_ELEMENTS_MAX = 1_048_576  # of a set of addresses: five times what control may have captured
_ELEMENTS_AT_ONCE = 1_000  # in one message: an attribute has at most 64 KiB, and an element takes up to 48 bytes
_BITMAP = "bitmap:port"
_ALL_PORTS = (0, 65_535)
_TWIN = "_new"  # the name of a set that is being filled ends so
_NETFILTER, _SUBSYSTEM, _PROTOCOL_VERSION = 12, 6 << 8, 6
_GENERIC = struct.Struct(">BBH")  # family, version, resource
_ADD, _DEL = 9, 10
_NET_ORDER = 0x4000
_PROTOCOL, _SETNAME, _DATA, _ELEMENTS = 1, 2, 7, 8  # attributes of a message
_IP, _CIDR, _PORT, _TIMEOUT, _PROTO, _LINE = 1, 3, 4, 6, 7, 9  # and of an element; the line is for errors, and must be there
_IPV4, _IPV6 = 1, 2
_NOTHING_THERE = (errno.ENOENT, errno.EINVAL)  # EINVAL: what nfnetlink says in a kernel without ip_set
Result = TypeVar("Result")


def is_there(name: str) -> bool:
    """Whether the kernel has a set of that name."""

    def look(ipset: Any) -> bool:
        return bool(tuple(ipset.headers(name)))

    try:
        return use_ipset(look)
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return False
        raise RedirectError(f"ipset {name} cannot be looked for: {error.strerror}; intercept needs root") from error


def create_missing(sets: Iterable[IpSet]) -> tuple[str, ...]:
    """Makes those that are not there; gives their names."""
    return tuple(wanted.name for wanted in sets if not is_there(wanted.name) and _make(wanted, wanted.name))


def destroy_all(names: Iterable[str]) -> None:
    """Removes those that are there, and what a fill that was killed half way has left of them.

    Raises:
        RedirectError: a rule still asks for one.
    """
    destroy([each for name in names for each in (name, f"{name}{_TWIN}")])


def destroy(names: Iterable[str]) -> None:
    """Removes those that are there.

    Raises:
        RedirectError: a rule still asks for one.
    """
    for name in (name for name in names if is_there(name)):
        _use(name, partial(_destroy, name=name))


def fill(wanted: IpSet, elements: Iterable[str]) -> None:
    """The set holds exactly these from now on; packets see the old or the new content, nothing between."""
    destroy([_exchange(wanted, elements)])


def recount(wanted: IpSet, elements: Iterable[str]) -> tuple[int, ...]:
    """As `fill`, of a set that counts: what each element of before has counted. No packet is missed or counted twice."""
    old = _exchange(wanted, elements)
    counted = packets_in(old)
    destroy([old])
    return counted


def _exchange(wanted: IpSet, elements: Iterable[str]) -> str:
    """The name of what the set was before; it is to be destroyed."""
    other = f"{wanted.name}{_TWIN}"
    destroy([other])  # of somebody who died before the end
    _make(wanted, other)
    add(wanted._replace(name=other), elements)
    _use(wanted.name, lambda ipset: ipset.swap(other, wanted.name))
    return other


def add(to: IpSet, elements: Iterable[str]) -> None:
    """These are in it; those that were there begin a new time."""
    _change(to, elements, _ADD)


def drop(of: IpSet, elements: Iterable[str]) -> None:
    """These are not in it any more."""
    _change(of, elements, _DEL)


def clear(name: str) -> None:
    """Nothing is in it any more."""
    _use(name, lambda ipset: ipset.flush(name))


def elements_of(name: str) -> frozenset[str]:
    """What is in it, in the usual form."""
    return frozenset(map(_text, _rows(name)))


def packets_in(name: str) -> tuple[int, ...]:
    """What each element of a set that counts has counted."""
    return tuple(int(row.get_attr("IPSET_ATTR_PACKETS") or 0) for row in _rows(name))


def _rows(name: str) -> list[Any]:
    answers = _use(name, lambda ipset: tuple(ipset.list(name)))
    return [row for answer in answers for _, row in answer.get_attr("IPSET_ATTR_ADT")["attrs"]]


def _use(name: str, use: Callable[[Any], Result]) -> Result:
    try:
        return use_ipset(use)
    except OSError as error:
        raise _failed(name, error) from error


def _failed(name: str, error: OSError) -> RedirectError:
    """What the kernel means by its error."""
    if error.errno == errno.ENOENT:
        return RedirectError(f"ipset {name} is not there: {REMOVED}")
    cure = "; does the kernel have ip_set? (modprobe ip_set)" if error.errno in _NOTHING_THERE else ""
    return RedirectError(f"ipset {name}: {error.strerror or error}{cure}")


def _destroy(ipset: Any, name: str) -> None:
    ipset.destroy(name)


def _make(wanted: IpSet, name: str) -> bool:
    options: dict[str, Any] = {"family": _AF[wanted.family], "maxelem": _ELEMENTS_MAX}
    if wanted.kind == _BITMAP:
        options = {"bitmap_ports_range": _ALL_PORTS}
    if wanted.timeout_s:
        options["timeout"] = wanted.timeout_s
    if wanted.counts:
        options["counters"] = True
    _use(name, lambda ipset: ipset.create(name, wanted.kind, **options))
    return True


def _change(of: IpSet, elements: Iterable[str], command: int) -> None:
    """Many elements in one message: pyroute2 knows messages of one, and takes 0.4 ms for each."""
    data = [_encode(of, element) for element in elements]
    head = encode_attribute(_PROTOCOL, bytes([_PROTOCOL_VERSION])) + encode_attribute(_SETNAME, of.name.encode() + b"\0")
    try:
        with open_netlink(_NETFILTER) as sock:
            for begin in range(0, len(data), _ELEMENTS_AT_ONCE):
                part = encode_attribute(_ELEMENTS | NESTED, b"".join(data[begin : begin + _ELEMENTS_AT_ONCE]))
                body = _GENERIC.pack(socket.AF_INET, 0, 0) + head + encode_attribute(_LINE, bytes(4)) + part
                order(sock, command | _SUBSYSTEM, body)
    except OSError as error:
        raise _failed(of.name, error) from error


def _encode(of: IpSet, element: str) -> bytes:
    """One element as netlink has it."""
    line = encode_attribute(_LINE, bytes(4))
    if of.kind == _BITMAP:
        return encode_attribute(_DATA | NESTED, encode_attribute(_PORT | _NET_ORDER, struct.pack(">H", int(element))) + line)
    address, _, port = element.partition(" . ")
    address, _, prefix = address.partition("/")
    kind = _IPV4 if of.family == 4 else _IPV6
    data = encode_attribute(_IP | NESTED, encode_attribute(kind | _NET_ORDER, socket.inet_pton(_AF[of.family], address)))
    if prefix:
        data += encode_attribute(_CIDR, bytes([int(prefix)]))
    if port:
        data += encode_attribute(_PORT | _NET_ORDER, struct.pack(">H", int(port))) + encode_attribute(_PROTO, bytes([socket.IPPROTO_TCP]))
    if of.timeout_s:
        data += encode_attribute(_TIMEOUT | _NET_ORDER, struct.pack(">I", of.timeout_s))
    return encode_attribute(_DATA | NESTED, data + line)


def _text(row: Any) -> str:
    """An element of a listing."""
    port, address, prefix = (row.get_attr(f"IPSET_ATTR_{name}") for name in ("PORT_FROM", "IP_FROM", "CIDR"))
    if address is None:
        return str(port)
    ip = address.get_attr("IPSET_ATTR_IPADDR_IPV4") or address.get_attr("IPSET_ATTR_IPADDR_IPV6")
    return f"{ip} . {port}" if port is not None else f"{ip}/{prefix}" if prefix is not None else str(ip)
