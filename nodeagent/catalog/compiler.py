"""CatalogState and this host's configuration to a Snapshot: every check and every index is made here."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec

from nodeagent import limits
from nodeagent.catalog.buckets import Buckets
from nodeagent.catalog.claims import Claim, claims_of
from nodeagent.catalog.parts import (
    PROTOCOLS,
    Intentions,
    best_owners,
    host_of,
    intentions_of,
    meshed_last,
    service_of,
    shown_by,
)
from nodeagent.catalog.registrations import address_in, by_address, by_port, ip_in, row_text, rows_of
from nodeagent.catalog.state import CatalogState
from nodeagent.catalog.traffic import entry_notes, names_in
from nodeagent.config import Config, mesh_of
from nodeagent.model.address import Address
from nodeagent.model.intention import ANY
from nodeagent.model.names import is_service_name
from nodeagent.model.service import Host, Service
from nodeagent.model.snapshot import Mesh, Nearby, Snapshot

Key = TypeVar("Key")


class Capture(NamedTuple):
    """What the catalog says is in the mesh, for the rules of the kernel."""

    addresses: tuple[str, ...]
    """Addresses of other hosts, and of services that are registered elsewhere."""
    ports: tuple[int, ...]
    """Ports of services registered on this host."""
    loopback_ports: tuple[int, ...] = ()
    """Those of them that are to be captured on loopback addresses, too."""


class Compiled(NamedTuple):
    """A snapshot, and what it takes to compile what changes next by itself."""

    snapshot: Snapshot
    rivals: dict[Address, set[str]]
    """Services that claim one address, where they are several."""
    local: dict[Address, Claim]
    """Claims of this host's own instances, of those that decide."""


def compile_snapshot(state: CatalogState, config: Config, *, trust_domain: str, generation: int) -> Snapshot:
    """The mesh as decisions see it. The same state gives the same snapshot, in whatever order its rows came.

    Two registrations of one (address, port): the one decides that is on the machine which owns the address; then this
    host's own, one at this very address, the service that was registered first (`catalog/claims`), the first by name. The others
    cannot be reached by that address, neither as caller's agent nor as callee's, so that nobody gets access by registering his
    service over another.

    A machine with an agent is captured at a registered port whatever the address: so a registration at one of its
    addresses counts at all of them, and callers meet the agent there, too, instead of sending what it refuses in clear.
    """
    steps = compile_steps(state, config, trust_domain=trust_domain, generation=generation)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            compiled: Compiled = done.value
            return compiled.snapshot


def compile_steps(
    state: CatalogState, config: Config, *, trust_domain: str, generation: int
) -> Generator[None, None, Compiled]:  # fmt: skip
    """As `compile_snapshot`, in steps of a few milliseconds: whoever has a loop gives it a turn after each."""
    hosts = yield from _hosts(state, config)
    owners = best_owners(hosts.values(), config.host.name)
    intentions = intentions_of(state.intentions)
    yield
    services, here = yield from _services(state, config, intentions, owners)
    best, rivals = yield from _claims(state, services, hosts, owners, config.host.name)
    local = {address: claim for address, claim in best.items() if claim.is_local}
    yield
    rows: Buckets[str] = Buckets()
    unowned: set[Address] = set()
    for part in parts_of(best.items()):
        rows.fill((str(address), row_text(claim.service, claim.position)) for address, claim in part)
        unowned.update(address for address, _ in part if address.ip not in owners)
        yield
    snapshot = Snapshot(
        generation=generation,
        mesh=with_catalog(mesh_of(config, trust_domain), state),
        services=services,
        hosts=hosts,
        wildcards=intentions.get(ANY, ()),
        by_address=by_address(rows, services),
        host_by_ip=owners,
        local_by_port=by_port(port_rows(local), services),
        nearby=Nearby(here, frozenset(unowned)),
    )
    return Compiled(snapshot, rivals, local)


def with_catalog(mesh: Mesh, state: CatalogState) -> Mesh:
    """The mesh with what the catalog says of all of it; the same object where it says nothing new."""
    if mesh.is_late == state.is_late and mesh.normalization == state.normalization:
        return mesh
    return msgspec.structs.replace(mesh, is_late=state.is_late, normalization=state.normalization)


def port_rows(local: Mapping[Address, Claim]) -> dict[str, str]:
    """Of the claims of this host's own instances, the one that decides for each port."""
    best: dict[int, Claim] = {}
    for address, claim in local.items():
        best[address.port] = min(claim, best.get(address.port, claim))
    return {str(port): row_text(claim.service, claim.position) for port, claim in best.items()}


def _unowned(snapshot: Snapshot) -> Iterable[Address]:
    """Registered addresses that are no machine's."""
    if snapshot.nearby:
        return snapshot.nearby.unowned
    return (address_in(key) for key in rows_of(snapshot.by_address) if ip_in(key) not in snapshot.host_by_ip)


def odd_names(names: Iterable[str]) -> list[str]:
    """Those that no service can have."""
    return [name for name in names if not is_service_name(name)]


def notes_of(state: CatalogState, odd: Iterable[str] | None = None) -> tuple[str, ...]:
    """What the compiler leaves out or takes otherwise than it was written, one sentence each: for log and `check`.

    odd: the names of `state.instances` that no service can have, where they are known.
    """
    notes = [row.note for row in state.intentions if row.note]
    notes += [
        f"{name}: protocol {protocol!r} is not known: taken as tcp"
        for name, protocol in sorted(state.protocols.items())
        if protocol.lower() not in PROTOCOLS
    ]
    odd = odd_names(state.instances) if odd is None else odd
    notes += [f"{name!r} cannot be a service's name: left out" for name in odd]
    return (*notes, *entry_notes(state))


def capture_of(snapshot: Snapshot) -> Capture:
    """What the kernel must send to this agent, sorted."""
    here = snapshot.mesh.host
    owned = {ip for ip, host in snapshot.host_by_ip.items() if host.name != here}
    elsewhere = {address.ip for address in _unowned(snapshot) if snapshot.by_address[address].instance.host != here}
    ports = sorted(snapshot.local_by_port)
    services = snapshot.local_services()
    on_loopback = tuple(port for port in ports if not services[port].isdisjoint(snapshot.mesh.loopback_enforced))
    return Capture(tuple(sorted(owned | elsewhere)), tuple(ports), on_loopback)


def service_names(state: CatalogState, intentions: Intentions, config: Config) -> set[str]:
    """The services: whatever has instances, an intention, a protocol, an entry about requests or a table in the configuration."""
    named = set(state.instances) | set(intentions) | set(state.protocols) | set(config.service) | names_in(state)
    return {name for name in named if is_service_name(name)}


def _hosts(state: CatalogState, config: Config) -> Generator[None, None, dict[str, Host]]:
    """The machines by name."""
    seen: dict[str, Host] = {}
    for part in parts_of(state.instances.values()):
        for host in (shown_by(row) for rows in part for row in rows):
            if host.name not in seen or meshed_last(seen[host.name]) < meshed_last(host):
                seen[host.name] = host
        yield
    listed = {host.name: host for host in state.hosts}
    seen.setdefault(config.host.name, Host(config.host.name, ()))
    hosts: dict[str, Host] = {}
    for names in parts_of(sorted(listed.keys() | seen.keys())):
        hosts.update((name, host_of(listed.get(name), seen.get(name), config)) for name in names)
        yield
    return hosts


def _services(
    state: CatalogState, config: Config, intentions: Intentions, owners: Mapping[str, Host]
) -> Generator[None, None, tuple[Buckets[Service], frozenset[str]]]:
    """All of them, and those that this host has an instance of."""
    services: Buckets[Service] = Buckets()
    here: set[str] = set()
    for names in parts_of(sorted(service_names(state, intentions, config))):
        part = [service_of(name, state, config, intentions, owners) for name in names]
        services.fill((service.name, service) for service in part)
        here.update(service.name for service in part if service.is_on(config.host.name))
        yield
    return services, frozenset(here)


def _claims(
    state: CatalogState, services: Mapping[str, Service], hosts: Mapping[str, Host], owners: Mapping[str, Host], own: str
) -> Generator[None, None, tuple[dict[Address, Claim], dict[Address, set[str]]]]:
    """The claim that decides for each (address, port), see `compile_snapshot` for those that meet; and who meets there."""
    best: dict[Address, Claim] = {}
    rivals: dict[Address, set[str]] = {}
    for part in parts_of(services.items()):
        for name, service in part:
            for address, claim in claims_of(service, state.instances.get(name, ()), hosts, owners, own).items():
                other = best.setdefault(address, claim)
                if other is not claim:
                    rivals.setdefault(address, {other.service}).add(name)
                    best[address] = min(claim, other)
        yield
    return best, rivals


def parts_of(values: Iterable[Key]) -> Iterator[list[Key]]:
    """All of them, at most DECODE_ROWS at a time."""
    rest = iter(values)
    return iter(lambda: list(islice(rest, limits.DECODE_ROWS)), [])
