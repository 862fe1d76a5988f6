"""One host, one service, its claims to addresses: what a snapshot is put together from, each by itself."""

import ipaddress
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from typing import cast, get_args

import msgspec

from nodeagent.catalog.claims import in_order
from nodeagent.catalog.state import CatalogState, InstanceRow, IntentionRow
from nodeagent.catalog.subsets import subsets_of
from nodeagent.catalog.traffic import traffic_of
from nodeagent.config import Config
from nodeagent.model.address import canonical_ip, special_kind
from nodeagent.model.intention import Intention
from nodeagent.model.policy.resolving import ServiceResolver
from nodeagent.model.service import Host, Instance, Mode, Protocol, Service

PROTOCOLS = frozenset(get_args(Protocol))

Intentions = Mapping[str, tuple[Intention, ...]]
"""By destination."""


def host_of(listed: Host | None, seen: Host | None, config: Config) -> Host:
    """A machine, which is in at least one of the two; this one is as its configuration says.

    seen: as the best of the health answers shows it, by `meshed_last`. A machine, or its agent, that only such an answer
    shows counts too: it must not be dialled in clear meanwhile.
    """
    host = _with_marker(listed, seen or listed) if listed else seen
    assert host is not None
    if host.name == config.host.name:
        host = Host(host.name, tuple(canonical_ip(ip) for ip in config.host.addresses), host.tunnel_port)
    kept = tuple(ip for ip in host.addresses if _is_routable(ip))
    return host if kept == host.addresses else Host(host.name, kept, host.tunnel_port)


def shown_by(row: InstanceRow) -> Host:
    """A machine as a row shows it; without the addresses where the row is gone: they may be another machine's by now."""
    return Host(row.host.name, (), row.host.tunnel_port) if row.instance.gone else row.host


def meshed_last(host: Host) -> tuple[int, tuple[str, ...]]:
    """By this the best of what health answers show of one machine comes last."""
    return (host.tunnel_port, host.addresses)


def _with_marker(host: Host, seen: Host) -> Host:
    """The host with an agent where either answer shows one."""
    return host if host.tunnel_port else Host(host.name, host.addresses, seen.tunnel_port)


def _is_routable(ip: str) -> bool:
    """Whether the address means the same machine everywhere in the mesh."""
    return not special_kind(ipaddress.ip_address(ip))


def best_owners(hosts: Iterable[Host], own: str) -> dict[str, Host]:
    """Who owns an address: this host first, then meshed ones (whom clear text must not reach), then by name."""
    best: dict[str, Host] = {}
    for host in sorted(hosts, key=lambda host: (host.name != own, not host.tunnel_port, host.name)):
        for ip in host.addresses:
            best.setdefault(ip, host)
    return best


def service_of(
    name: str, state: CatalogState, config: Config, intentions: Intentions, owners: Mapping[str, Host]
) -> Service:  # fmt: skip
    """The service of that name, whatever is known of it."""
    return Service(
        name=name,
        protocol=_protocol(state.protocols.get(name) or state.default_protocol),
        instances=tuple(_instances(state.instances.get(name, ()), owners, config.host.name, state.resolvers.get(name))),
        intentions=intentions.get(name, ()),
        mode=_mode(config, name),
        traffic=traffic_of(name, state, config),
        upstreams=state.upstreams.get(name),
    )


def _protocol(text: str) -> Protocol:
    lowered = text.lower()
    return cast("Protocol", lowered) if lowered in PROTOCOLS else "tcp"  # cast: PROTOCOLS are the type's own values


def _mode(config: Config, name: str) -> Mode | None:
    table = config.service.get(name)
    return table.mode if table else None


def _instances(
    rows: Iterable[InstanceRow], owners: Mapping[str, Host], own: str, resolver: ServiceResolver | None
) -> Iterator[Instance]:  # fmt: skip
    """The instances in one order, with their subsets; those of other hosts without addresses that would mean this machine."""
    ordered = in_order(rows)
    subsets = subsets_of(resolver, ordered) if resolver and resolver.subsets else repeat(())
    for instance, within in zip((row.instance for row in ordered), subsets, strict=False):
        kept = tuple(a for a in instance.addresses if a.ip in owners or instance.host == own or _is_routable(a.ip))
        same = kept == instance.addresses and within == instance.subsets
        yield instance if same else msgspec.structs.replace(instance, addresses=kept, subsets=within)


def intentions_of(rows: Iterable[IntentionRow]) -> dict[str, tuple[Intention, ...]]:
    """Intentions by destination, the deciding one first: exact sources before `*`, deny before allow."""
    found: defaultdict[str, set[Intention]] = defaultdict(set)
    for row in rows:
        found[row.destination].add(Intention(row.source, row.destination, row.action, row.permissions))
    return {name: tuple(sorted(some | _doubled(some), key=_deciding_first)) for name, some in found.items()}


def _doubled(rows: Iterable[Intention]) -> set[Intention]:
    """A deny for each pair of which two rows speak of requests: nobody knows which was meant."""
    counted = Counter((row.source, row.destination) for row in rows if row.permissions)
    return {Intention(source, destination, "deny") for (source, destination), count in counted.items() if count > 1}


def _deciding_first(intention: Intention) -> tuple[int, str, int]:
    return (-intention.precedence, intention.source, ("deny", "by request", "allow").index(intention.word))
