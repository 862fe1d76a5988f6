"""Which registration decides at an (address, port) where several meet; pure.

Of services that one host registers at one address and port the first that was registered keeps it, whatever health and names say:
else whoever may register any service could take another's port, and with it the other's intentions. Callers' agents and the
callee's go by the catalog's own count, so they come to the same.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from nodeagent.catalog.state import InstanceRow
from nodeagent.model.address import Address
from nodeagent.model.service import Host, Instance, Service


class Rank(NamedTuple):
    """How good a claim to an address is by where it was made: the smaller decides."""

    is_foreign: bool
    """The address belongs to another machine than the one where it was registered."""
    is_gone: bool
    """The catalog has the instance no more."""
    is_elsewhere: bool
    """It was registered on another host than this one."""
    is_implied: bool
    """The instance was registered at another address of its machine."""


class Claim(NamedTuple):
    """A service's claim to an address: the smaller decides. Of registrations with one rank the first, then the first by name."""

    rank: Rank
    since: int
    """The catalog's index when the service was first registered there, of what is registered now; 0: it does not say."""
    service: str
    is_unhealthy: bool
    """Decides between instances of one service alone."""
    position: int

    @property
    def is_local(self) -> bool:
        """Whether an instance of this host claims what no other machine owns."""
        return not (self.rank.is_elsewhere or self.rank.is_foreign)


def in_order(rows: Iterable[InstanceRow]) -> list[InstanceRow]:
    """As a service has its instances: by host and id."""
    return sorted(rows, key=lambda row: (row.instance.host, row.instance.id))


def since_moved(before: Iterable[InstanceRow], answer: Iterable[InstanceRow]) -> tuple[InstanceRow, ...]:
    """The rows of an answer; one that has moved since the answer before is there since its last change, and keeps that.

    Consul counts from the first registration of an id, wherever that was: a claim could be made early at a free port, and be moved.
    """
    known = {(row.instance.host, row.instance.id): row for row in before}
    return tuple(_since(known.get((row.instance.host, row.instance.id)), row) for row in answer)


def claims_of(
    service: Service, rows: Iterable[InstanceRow], hosts: Mapping[str, Host], owners: Mapping[str, Host], own: str
) -> dict[Address, Claim]:
    """The service's own best claim to each address. rows: those that the service was made of."""
    best: dict[Address, Claim] = {}
    for position, (row, usable) in enumerate(zip(map(_counted, in_order(rows)), service.instances, strict=True)):
        instance = row.instance
        implied = _implied(instance, hosts[instance.host], owners, own)
        for address in (*usable.addresses, *implied):
            rank = Rank(_is_foreign(owners.get(address.ip), instance), instance.gone, instance.host != own, address in implied)
            claim = Claim(rank, row.registered_at, service.name, not instance.healthy, position)
            best[address] = _joined(best[address], claim) if address in best else claim
    return best


def _counted(row: InstanceRow) -> InstanceRow:
    """What an older version saved without the first count is there since its last change at the latest, until it is heard."""
    return row if row.registered_at or not row.said_at else msgspec.structs.replace(row, registered_at=row.said_at)


def _since(old: InstanceRow | None, row: InstanceRow) -> InstanceRow:
    if old is None or row.said_at < old.said_at:  # new, or of a catalog that went back
        return row
    at = max(row.registered_at, old.registered_at if _places(row) <= _places(old) else row.said_at)
    return row if at == row.registered_at else msgspec.structs.replace(row, registered_at=at)


def _places(row: InstanceRow) -> set[tuple[str, int]]:
    """Where it is registered; all addresses of its machine are one, the empty: they may change, and it has not moved."""
    return {("" if ip in row.host.addresses else ip, port) for ip, port in row.instance.addresses}


def _joined(one: Claim, other: Claim) -> Claim:
    """Of two claims of one service: the better place, then the healthy instance; there since the earlier of both."""
    better, worse = sorted((one, other), key=lambda claim: (claim.rank, claim.is_unhealthy, claim.position))
    is_same = better.rank == worse.rank
    return better._replace(since=min(better.since, worse.since)) if is_same else better


def _is_foreign(owner: Host | None, instance: Instance) -> bool:
    return owner is not None and owner.name != instance.host


def _implied(instance: Instance, host: Host, owners: Mapping[str, Host], own: str) -> list[Address]:
    """Where else the agent of its machine takes the instance's ports: not those of addresses that are another machine's."""
    if not (host.tunnel_port or host.name == own):
        return []
    ports = {port for ip, port in instance.addresses if ip in host.addresses or ip not in owners}
    places = (Address(ip, port) for port in sorted(ports) for ip in host.addresses)
    return [place for place in places if place not in instance.addresses]
