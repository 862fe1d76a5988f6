"""What this host registers in vain, as another service of its own was at the port first (`catalog/claims`); pure."""

from typing import NamedTuple

from nodeagent.model.address import Address
from nodeagent.model.snapshot import Snapshot


class Displaced(NamedTuple):
    """A registration of this host that is not in force, since another of this host has its address and port."""

    address: Address
    service: str
    holder: str


def displaced_here(snapshot: Snapshot) -> tuple[Displaced, ...]:
    """What this host's registrations claim in vain, by address: for who must put it right."""
    here = snapshot.mesh.host
    claims = (
        Displaced(address, service.name, found.service.name)
        for service in map(snapshot.services.__getitem__, snapshot.local_names())
        for instance in service.instances
        if instance.host == here
        for address in instance.addresses
        if (found := snapshot.by_address.get(address)) and found.instance.host == here and found.service.name != service.name
    )
    return tuple(sorted(set(claims)))


def in_vain(snapshot: Snapshot) -> frozenset[str]:
    """The services that this host registers and of which it has nothing in force: nobody is to speak as one of them for that alone."""
    here = snapshot.mesh.host
    displaced = {(claim.service, claim.address) for claim in displaced_here(snapshot)}
    names = {name for name, _ in displaced}
    own = {name: [i for i in snapshot.services[name].instances if i.host == here] for name in names}
    return frozenset(
        name for name, instances in own.items()
        if all(i.addresses and all((name, address) in displaced for address in i.addresses) for i in instances)
    )  # fmt: skip


def displaced_alarms(snapshot: Snapshot) -> tuple[str, ...]:
    """In words, one sentence for each two services that claim the same port."""
    here, ports = snapshot.mesh.host, {(claim.address.port, claim.holder, claim.service) for claim in displaced_here(snapshot)}
    return tuple(
        f"two services claim {here}:{port}: {holder} (registered first, in force) and {service} (no call gets there by that name); "
        "deregister the one that is wrong"
        for port, holder, service in sorted(ports)
    )
