"""What changed between two snapshots: what a worker must be sent."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from nodeagent.catalog.buckets import Buckets
from nodeagent.catalog.registrations import rows_of
from nodeagent.model.intention import Intention
from nodeagent.model.service import Host, Service
from nodeagent.model.snapshot import Mesh, Snapshot

Value = TypeVar("Value")

Changes = dict[str, str | None]
"""Rows of an index that changed; None: gone."""


class Delta(msgspec.Struct, frozen=True):
    """How to get from the snapshot of generation `base` to that of `generation`."""

    base: int
    generation: int
    mesh: Mesh | None = None
    """None: as before; so also for `wildcards`."""
    services: tuple[Service, ...] = ()
    """New or changed."""
    removed: tuple[str, ...] = ()
    hosts: tuple[Host, ...] = ()
    """New or changed."""
    removed_hosts: tuple[str, ...] = ()
    wildcards: tuple[Intention, ...] | None = None
    addresses: Changes = {}
    ports: Changes = {}
    owners: Changes = {}
    """Name of the host that owns an IP address."""


def diff(old: Snapshot, new: Snapshot) -> Delta:
    """The delta from `old` to `new`."""
    return Delta(
        base=old.generation,
        generation=new.generation,
        mesh=None if old.mesh == new.mesh else new.mesh,
        services=_changed(old.services, new.services),
        removed=_gone(old.services, new.services),
        hosts=_changed(old.hosts, new.hosts),
        removed_hosts=_gone(old.hosts, new.hosts),
        wildcards=None if old.wildcards == new.wildcards else new.wildcards,
        addresses=_changes(rows_of(old.by_address), rows_of(new.by_address)),
        ports=_changes(rows_of(old.local_by_port), rows_of(new.local_by_port)),
        owners=_changes(owners_of(old), owners_of(new)),
    )


def owners_of(snapshot: Snapshot) -> dict[str, str]:
    """Which host owns each address, by name."""
    return {ip: host.name for ip, host in snapshot.host_by_ip.items()}


def is_empty(delta: Delta) -> bool:
    """Whether nothing changed but the number: no worker needs to hear of it."""
    return delta == Delta(delta.base, delta.generation)


def differing(old: Mapping[str, Value], new: Mapping[str, Value]) -> set[str]:
    """The keys that are new, gone, or have another value. Quick: what did not change is mostly the same object in both."""
    if isinstance(old, Buckets) and isinstance(new, Buckets):
        return {key for was, now in old.unlike(new) for key in _unlike(was, now)}
    return set() if old is new else _unlike(old, new)


def _unlike(old: Mapping[str, Value], new: Mapping[str, Value]) -> set[str]:
    pairs = zip(new, new.values(), map(old.get, new), strict=True)
    return {key for key, value, before in pairs if value is not before and value != before} | (old.keys() - new.keys())


def _changed(old: Mapping[str, Value], new: Mapping[str, Value]) -> tuple[Value, ...]:
    return tuple(value for key, value in new.items() if key not in old or old[key] != value)


def _gone(old: Iterable[str], new: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(key for key in old if key not in new)


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> Changes:
    changed: Changes = {key: value for key, value in new.items() if old.get(key) != value}
    return changed | dict.fromkeys(key for key in old if key not in new)
