"""The return path of source-preserving connections: policy rules and the routes they lead to.

The agent's SYN towards a local application carries a mark, the application's socket inherits it, and these entries
bring its packets back to this host although they are addressed to the caller's.
"""

import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from redirect.errors import RedirectError
from redirect.rtnetlink import use_iproute
from redirect.rules import Family
from redirect.settings import ReturnPath

_AF: dict[Family, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANYWHERE: dict[Family, str] = {4: "0.0.0.0/0", 6: "::/0"}
_NO_IPV6 = Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")

# For an application that forges our mark on a socket without an address. The kernel would take the destination's for
# it, and the connection would hang; with this one it is captured like any other. IPv6 chooses better by itself.
_SOURCE: dict[Family, str | None] = {4: "127.0.0.1", 6: None}
_LOCAL = 2  # type of route: deliver here
_LOOPBACK = 1  # index of `lo` in every network namespace
_EXACTLY = 0xFFFFFFFF
_INVERTED = 0x2  # flag of a rule: `not`
# As whose our entries are marked. systemd-networkd deletes, when it starts, every rule and route of other programs (its
# default), but none of the kernel's. Deleting does not name it: an older version's entries are not marked.
_KERNEL = 2


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
        source = f" src {_SOURCE[self.family]}" if _SOURCE[self.family] else ""
        return f"route (IPv{self.family}) local {_ANYWHERE[self.family]} dev lo table {self.table}{source}"


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
    entries = tuple(entries)
    if not entries:
        return ()
    seen = _read(entries)
    return tuple(entry for entry in entries if entry in seen)


def find_entry_drift(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Those that the kernel does not have, and policy rules of others that come in their way, as sentences."""
    entries = tuple(entries)
    seen = _read(entries)
    missing = (f"{entry}: missing" for entry in entries if entry not in seen)
    shadowed = (sentence for entry in entries if isinstance(entry, PolicyRule) for sentence in seen.shadowing(entry))
    return (*missing, *shadowed)


def add_entry(entry: Entry) -> None:
    """Adds it; it must not be there.

    Raises:
        RedirectError: the kernel refused.
    """
    _change(entry, "add", "added")


def delete_entry(entry: Entry) -> None:
    """Deletes it; it must be there.

    Raises:
        RedirectError: the kernel refused.
    """
    _change(entry, "del", "deleted")


class FoundRule(NamedTuple):
    """What a policy rule in the kernel makes of marks."""

    mark: int
    mask: int
    """0: it does not look at the mark."""
    preference: int
    table: int
    is_inverted: bool = False
    """It takes every packet but those."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kernel has of the kind that was asked for."""

    rules: Mapping[Family, tuple[FoundRule, ...]]
    routes: frozenset[LocalRoute]

    def __contains__(self, entry: Entry) -> bool:
        if isinstance(entry, LocalRoute):
            return entry in self.routes
        return any(_is(found, entry) for found in self.rules[entry.family])

    def shadowing(self, ours: PolicyRule) -> Iterator[str]:
        """Foreign rules that take our mark first, as sentences."""
        for found in self.rules[ours.family]:
            if shadows(found, ours):
                yield f"{ours}: a rule of another program at preference {found.preference} takes that mark first; give it a higher one"


def shadows(found: FoundRule, ours: PolicyRule) -> bool:
    """Whether a foreign rule takes packets by our mark and comes before ours, or at the same place with another table."""
    if not found.mask or _is(found, ours) or found.preference > ours.preference:
        return False
    return (ours.mark & found.mask == found.mark) is not found.is_inverted


def _is(found: FoundRule, ours: PolicyRule) -> bool:
    return found == FoundRule(ours.mark, _EXACTLY, ours.preference, ours.table)


def arguments_of(entry: Entry) -> dict[str, Any]:
    """The entry as pyroute2 takes it, but for as whose it is marked."""
    family = _AF[entry.family]
    if isinstance(entry, PolicyRule):
        numbers = {"priority": entry.preference, "fwmark": entry.mark, "fwmask": _EXACTLY, "table": entry.table}
        return {"family": family, **numbers}
    route = {"type": "local", "dst": _ANYWHERE[entry.family], "oif": _LOOPBACK, "table": entry.table}
    source = _SOURCE[entry.family]
    return {"family": family, **route, **({"scope": "host", "prefsrc": source} if source else {})}


# --- helpers: what the kernel has; `iproute` is an open IPRoute, which has no types --------------------------------


def _change(entry: Entry, command: str, done: str) -> None:
    kind, field = ("rule", "protocol") if isinstance(entry, PolicyRule) else ("route", "proto")
    marked = {field: _KERNEL} if command == "add" else {}
    try:
        use_iproute(lambda iproute: getattr(iproute, kind)(command, **arguments_of(entry), **marked))
    except OSError as error:
        raise RedirectError(f"{entry}: cannot be {done}: {error.strerror}; is `lo` up, and is this root?") from error


def _read(entries: Iterable[Entry]) -> Seen:
    """What there is of the entries' kinds and families."""
    rules = {entry.family for entry in entries if isinstance(entry, PolicyRule)}
    routes = [entry for entry in entries if isinstance(entry, LocalRoute)]
    try:
        return use_iproute(
            lambda iproute: Seen(
                rules={family: _rules(iproute, family) for family in rules},
                routes=frozenset(route for route in routes if _has(iproute, route)),
            )
        )
    except OSError as error:
        raise RedirectError(f"policy rules or routes cannot be listed: {error.strerror}") from error


def _has(iproute: Any, ours: LocalRoute) -> bool:
    # Without a dump_filter of its own, pyroute2 lists the routes of all tables and compares them itself: 60 us each.
    routes = tuple(iproute.route("dump", family=_AF[ours.family], table=ours.table, dump_filter=None))
    return any(_is_route(found, ours) for found in routes)


def _is_route(found: Any, ours: LocalRoute) -> bool:
    numbers = (found["dst_len"], found["type"], found.get_attr("RTA_TABLE"), found.get_attr("RTA_OIF"))
    source = _SOURCE[ours.family]
    return numbers == (0, _LOCAL, ours.table, _LOOPBACK) and source in (None, found.get_attr("RTA_PREFSRC"))


def _rules(iproute: Any, family: Family) -> tuple[FoundRule, ...]:
    return tuple(map(_rule_in, tuple(iproute.rule("dump", family=_AF[family]))))


def _rule_in(found: Any) -> FoundRule:
    mark, mask, preference, table = (
        found.get_attr(name) or 0 for name in ("FRA_FWMARK", "FRA_FWMASK", "FRA_PRIORITY", "FRA_TABLE")
    )
    return FoundRule(mark, mask, preference, table, is_inverted=bool(found["flags"] & _INVERTED))


def _families() -> tuple[Family, ...]:
    try:
        has_ipv6 = _NO_IPV6.read_text(encoding="ascii").strip() == "0"
    except FileNotFoundError:
        has_ipv6 = False
    except OSError as error:
        raise RedirectError(f"whether IPv6 is in use cannot be read: {error}") from error
    return (4, 6) if has_ipv6 else (4,)
