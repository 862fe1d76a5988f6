"""The return path of source-preserving connections: policy rules and the routes they lead to.

The agent's SYN towards a local application carries a mark, the application's socket inherits it, and these entries
bring its packets back to this host although they are addressed to the caller's.
"""

import errno
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from redirect.errors import RedirectError
from redirect.netlink import CREATE, DUMP, ROUTE, decode_numbers, encode_numbers, exchange
from redirect.rules import Family
from redirect.settings import ReturnPath

_AF: dict[Family, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANYWHERE: dict[Family, str] = {4: "0.0.0.0/0", 6: "::/0"}
_FROM: dict[Family, str] = {4: " src 127.0.0.1", 6: ""}
_NO_IPV6 = Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")

# family, destination bits, source bits, tos, table, then for a route: protocol, scope, type; for a rule: 0, 0, action; flags
_HEADER = struct.Struct("=BBBBBBBBI")
_NEW_RULE, _DELETE_RULE, _GET_RULE = 32, 33, 34
_NEW_ROUTE, _DELETE_ROUTE, _GET_ROUTE = 24, 25, 26
_RULE_PRIORITY, _RULE_MARK, _RULE_TABLE, _RULE_MASK = 6, 10, 15, 16
_ROUTE_OUT, _ROUTE_SOURCE, _ROUTE_TABLE = 4, 7, 15
_STATIC, _HOST_SCOPE, _LOCAL, _LOOK_UP = 4, 254, 2, 1
_LOOPBACK = 1  # index of `lo` in every network namespace
_EXACTLY = 0xFFFFFFFF
# For an application that forges our mark on a socket without an address. The kernel would take the destination's for
# it, and the connection would hang; with this one it is captured like any other. IPv6 chooses better by itself.
_SOURCE: dict[Family, dict[int, int]] = {
    4: {_ROUTE_SOURCE: int.from_bytes(socket.inet_aton("127.0.0.1"), sys.byteorder)},
    6: {},
}


class PolicyRule(NamedTuple):
    """Packets with this mark look into this table."""

    family: Family
    mark: int
    preference: int
    table: int

    def __str__(self) -> str:
        return f"policy rule (IPv{self.family}) {self.preference}: fwmark {self.mark:#x} lookup {self.table}"


class LocalRoute(NamedTuple):
    """Whatever looks into this table is delivered on this host."""

    family: Family
    table: int

    def __str__(self) -> str:
        return f"route (IPv{self.family}) local {_ANYWHERE[self.family]} dev lo table {self.table}{_FROM[self.family]}"


Entry = PolicyRule | LocalRoute


def wanted_entries(path: ReturnPath) -> tuple[Entry, ...]:
    """What the return path needs on this host; nothing for IPv6 where the host has none. Routes first."""
    families = _families()
    return (
        *(LocalRoute(family, path.table) for family in families),
        *(PolicyRule(family, path.mark, path.preference, path.table) for family in families),
    )


def present_entries(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Those that the kernel has."""
    return tuple(entry for entry in entries if any(_matches(entry, found) for found in _similar(entry)))


def shadowing_rules(entries: Iterable[Entry]) -> Iterator[str]:
    """Policy rules of others that catch our mark first, as sentences."""
    for ours in entries:
        if isinstance(ours, PolicyRule):
            for found in _similar(ours):
                if shadows(found, ours):
                    yield f"{ours}: a rule of another program at preference {found.numbers.get(_RULE_PRIORITY, 0)} takes that mark first"


def add_entry(entry: Entry) -> None:
    """Adds it; it must not be there.

    Raises:
        RedirectError: the kernel refused.
    """
    _change(entry, "added", _NEW_RULE if isinstance(entry, PolicyRule) else _NEW_ROUTE, CREATE)


def delete_entry(entry: Entry) -> None:
    """Deletes it; it must be there.

    Raises:
        RedirectError: the kernel refused.
    """
    _change(entry, "deleted", _DELETE_RULE if isinstance(entry, PolicyRule) else _DELETE_ROUTE, 0)


class Found(NamedTuple):
    """A rule or route as the kernel lists it."""

    header: tuple[int, ...]
    numbers: dict[int, int]


def shadows(found: Found, ours: PolicyRule) -> bool:
    """Whether a foreign rule names our mark and comes before ours, or at the same place with another table."""
    mark, mask = found.numbers.get(_RULE_MARK), found.numbers.get(_RULE_MASK, _EXACTLY)
    if mark is None or _matches(ours, found) or found.numbers.get(_RULE_PRIORITY, 0) > ours.preference:
        return False
    return ours.mark & mask == mark


def encode_entry(entry: Entry) -> bytes:
    """The entry as the kernel takes it."""
    family = _AF[entry.family]
    if isinstance(entry, PolicyRule):
        numbers = {
            _RULE_PRIORITY: entry.preference, _RULE_MARK: entry.mark, _RULE_MASK: _EXACTLY, _RULE_TABLE: entry.table
        }  # fmt: skip
        return _HEADER.pack(family, 0, 0, 0, 0, 0, 0, _LOOK_UP, 0) + encode_numbers(numbers)
    scope = _HOST_SCOPE if entry.family == 4 else 0
    header = _HEADER.pack(family, 0, 0, 0, 0, _STATIC, scope, _LOCAL, 0)
    return header + encode_numbers(_route_numbers(entry))


def _route_numbers(route: LocalRoute) -> dict[int, int]:
    return {_ROUTE_OUT: _LOOPBACK, _ROUTE_TABLE: route.table} | _SOURCE[route.family]


def decode_entry(body: bytes) -> Found:
    """A rule or route from a listing."""
    return Found(_HEADER.unpack_from(body), decode_numbers(body[_HEADER.size :]))


def _change(entry: Entry, verb: str, kind: int, flags: int) -> None:
    try:
        exchange(ROUTE, kind, flags, encode_entry(entry))
    except OSError as error:
        raise RedirectError(f"{entry}: cannot be {verb}: {error.strerror}; is `lo` up, and is this root?") from error


def _similar(entry: Entry) -> Iterator[Found]:
    """The kernel's rules of the same family, or the routes of the same table."""
    is_rule = isinstance(entry, PolicyRule)
    body = _HEADER.pack(_AF[entry.family], *[0] * 8)
    if not is_rule:
        body += encode_numbers({_ROUTE_TABLE: entry.table})
    try:
        yield from map(decode_entry, exchange(ROUTE, _GET_RULE if is_rule else _GET_ROUTE, DUMP, body))
    except OSError as error:
        if error.errno != errno.ENOENT:  # what a table says in which there never was a route
            raise RedirectError(f"policy rules or routes cannot be listed: {error.strerror}") from error


def _matches(entry: Entry, found: Found) -> bool:
    if isinstance(entry, LocalRoute):
        is_anywhere_local = (found.header[1], found.header[7]) == (0, _LOCAL)
        return is_anywhere_local and _route_numbers(entry).items() <= found.numbers.items()
    fields = (_RULE_PRIORITY, _RULE_MARK, _RULE_MASK, _RULE_TABLE)
    return tuple(map(found.numbers.get, fields)) == (entry.preference, entry.mark, _EXACTLY, entry.table)


def _families() -> tuple[Family, ...]:
    has_ipv6 = _NO_IPV6.exists() and _NO_IPV6.read_text(encoding="ascii").strip() == "0"
    return (4, 6) if has_ipv6 else (4,)
