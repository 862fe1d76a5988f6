"""CatalogState and this host's configuration to a Snapshot: every check and every index is made here."""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar, cast, get_args

import msgspec

from nodeagent.catalog.claims import Claim, claims_of, in_order
from nodeagent.catalog.registrations import by_address, by_port, row_text
from nodeagent.catalog.state import CatalogState, InstanceRow
from nodeagent.config import Config, mesh_of
from nodeagent.model.address import Address, canonical_ip, special_kind
from nodeagent.model.intention import ANY, Intention
from nodeagent.model.service import Host, Instance, Mode, Protocol, Service, is_service_name
from nodeagent.model.snapshot import Snapshot

PROTOCOLS = frozenset(get_args(Protocol))

Key = TypeVar("Key")

_Intentions = Mapping[str, tuple[Intention, ...]]
"""By destination."""


class Capture(NamedTuple):
    """What the catalog says is in the mesh, for the rules of the kernel."""

    addresses: tuple[str, ...]
    """Addresses of other hosts, and of services that are registered elsewhere."""
    ports: tuple[int, ...]
    """Ports of services registered on this host."""
    loopback_ports: tuple[int, ...] = ()
    """Those of them that are to be captured on loopback addresses, too."""


def compile_snapshot(state: CatalogState, config: Config, *, trust_domain: str, generation: int) -> Snapshot:
    """The mesh as decisions see it. The same state gives the same snapshot, in whatever order its rows came.

    Two registrations of one (address, port): the one decides that is on the machine which owns the address; then this
    host's own, one at this very address, the service that was registered first (`catalog/claims`), the first by name. The others
    cannot be reached by that address, neither as caller's agent nor as callee's, so that nobody gets access by registering his
    service over another.

    A machine with an agent is captured at a registered port whatever the address: so a registration at one of its
    addresses counts at all of them, and callers meet the agent there, too, instead of sending what it refuses in clear.
    """
    hosts = _hosts(state, config)
    host_by_ip = _host_by_ip(hosts.values(), config.host.name)
    intentions = _intentions(state)
    services = _services(state, config, intentions, host_by_ip)
    claims = _claims(state, services, hosts, host_by_ip, config.host.name)
    return Snapshot(
        generation=generation,
        mesh=mesh_of(config, trust_domain),
        services=services,
        hosts=hosts,
        wildcards=intentions.get(ANY, ()),
        by_address=by_address(_rows(claims), services),
        host_by_ip=host_by_ip,
        local_by_port=by_port(_rows(_local_claims(claims)), services),
    )


def notes_of(state: CatalogState) -> tuple[str, ...]:
    """What the compiler leaves out or takes otherwise than it was written, one sentence each: for log and `check`."""
    notes = [row.note for row in state.intentions if row.note]
    notes += [
        f"{name}: protocol {protocol!r} is not known: taken as tcp"
        for name, protocol in sorted(state.protocols.items())
        if protocol.lower() not in PROTOCOLS
    ]
    notes += [f"{name!r} cannot be a service's name: left out" for name in state.instances if not is_service_name(name)]
    return tuple(notes)


def capture_of(snapshot: Snapshot) -> Capture:
    """What the kernel must send to this agent, sorted."""
    here = snapshot.mesh.host
    owned = {ip for ip, host in snapshot.host_by_ip.items() if host.name != here}
    unowned = (address for address in snapshot.by_address if address.ip not in snapshot.host_by_ip)
    elsewhere = {address.ip for address in unowned if snapshot.by_address[address].instance.host != here}
    ports = sorted(snapshot.local_by_port)
    services = snapshot.local_services()
    on_loopback = tuple(port for port in ports if not services[port].isdisjoint(snapshot.mesh.loopback_enforced))
    return Capture(tuple(sorted(owned | elsewhere)), tuple(ports), on_loopback)


def _hosts(state: CatalogState, config: Config) -> dict[str, Host]:
    """The machines by name; this one is as its configuration says.

    A machine, or its agent, that only a health answer shows counts too: it must not be dialled in clear meanwhile.
    """
    own = config.host.name
    seen = sorted((row.host for rows in state.instances.values() for row in rows), key=_meshed_last)
    hosts = {host.name: host for host in seen}
    hosts |= {host.name: _with_marker(host, hosts.get(host.name, host)) for host in state.hosts}
    marker = hosts[own].tunnel_port if own in hosts else 0
    hosts[own] = Host(own, tuple(canonical_ip(ip) for ip in config.host.addresses), marker)
    return {name: _reachable(hosts[name]) for name in sorted(hosts)}


def _meshed_last(host: Host) -> tuple[int, tuple[str, ...]]:
    return (host.tunnel_port, host.addresses)


def _with_marker(host: Host, seen: Host) -> Host:
    """The host with an agent where either answer shows one."""
    return host if host.tunnel_port else Host(host.name, host.addresses, seen.tunnel_port)


def _reachable(host: Host) -> Host:
    """The host without addresses that mean another machine to everyone."""
    kept = tuple(ip for ip in host.addresses if _is_routable(ip))
    return host if kept == host.addresses else Host(host.name, kept, host.tunnel_port)


def _is_routable(ip: str) -> bool:
    """Whether the address means the same machine everywhere in the mesh."""
    return not special_kind(ipaddress.ip_address(ip))


def _host_by_ip(hosts: Iterable[Host], own: str) -> dict[str, Host]:
    """Who owns an address: this host first, then meshed ones (whom clear text must not reach), then by name."""
    best: dict[str, Host] = {}
    for host in sorted(hosts, key=lambda host: (host.name != own, not host.tunnel_port, host.name)):
        for ip in host.addresses:
            best.setdefault(ip, host)
    return best


def _services(
    state: CatalogState, config: Config, intentions: _Intentions, owners: Mapping[str, Host]
) -> dict[str, Service]:
    """The services by name: whatever has instances, an intention, a protocol or a table in the configuration."""
    names = set(state.instances) | set(intentions) | set(state.protocols) | set(config.service)
    return {
        name: Service(
            name=name,
            protocol=_protocol(state.protocols.get(name) or state.default_protocol),
            instances=tuple(_instances(state.instances.get(name, ()), owners, config.host.name)),
            intentions=intentions.get(name, ()),
            mode=_mode(config, name),
        )
        for name in sorted(names)
        if is_service_name(name)
    }


def _protocol(text: str) -> Protocol:
    lowered = text.lower()
    return cast("Protocol", lowered) if lowered in PROTOCOLS else "tcp"  # cast: PROTOCOLS are the type's own values


def _mode(config: Config, name: str) -> Mode | None:
    table = config.service.get(name)
    return table.mode if table else None


def _instances(rows: Iterable[InstanceRow], owners: Mapping[str, Host], own: str) -> Iterator[Instance]:
    """The instances in one order; those of other hosts without addresses that would mean this machine."""
    for instance in _ordered(rows):
        kept = tuple(a for a in instance.addresses if a.ip in owners or instance.host == own or _is_routable(a.ip))
        same = kept == instance.addresses
        yield instance if same else msgspec.structs.replace(instance, addresses=kept)


def _ordered(rows: Iterable[InstanceRow]) -> list[Instance]:
    return [row.instance for row in in_order(rows)]


def _intentions(state: CatalogState) -> _Intentions:
    """Intentions by destination, the deciding one first: exact sources before `*`, deny before allow."""
    rows: defaultdict[str, set[Intention]] = defaultdict(set)
    for row in state.intentions:
        rows[row.destination].add(Intention(row.source, row.destination, row.action))
    return {name: tuple(sorted(found, key=_deciding_first)) for name, found in rows.items()}


def _deciding_first(intention: Intention) -> tuple[int, str, bool]:
    return (-intention.precedence, intention.source, intention.action == "allow")


def _claims(
    state: CatalogState, services: Mapping[str, Service], hosts: Mapping[str, Host], owners: Mapping[str, Host], own: str
) -> dict[Address, Claim]:
    """The claim that decides, for each (address, port); see `compile_snapshot` for those that meet."""
    best: dict[Address, Claim] = {}
    for name, service in services.items():
        for address, claim in claims_of(service, state.instances.get(name, ()), hosts, owners, own).items():
            best[address] = min(claim, best.get(address, claim))
    return best


def _local_claims(claims: Mapping[Address, Claim]) -> dict[int, Claim]:
    """Of the claims of this host's own instances, the one that decides for each port."""
    best: dict[int, Claim] = {}
    for address, claim in claims.items():
        if claim.is_local:
            best[address.port] = min(claim, best.get(address.port, claim))
    return best


def _rows(claims: Mapping[Key, Claim]) -> dict[str, str]:
    return {str(key): row_text(claim.service, claim.position) for key, claim in claims.items()}
