"""What the catalog said, parsed: one function per answer of Consul's HTTP API, and the whole as CatalogState."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from nodeagent import limits
from nodeagent.catalog.consul_rows import (
    HealthRow,
    IntentionsEntry,
    NodeRow,
    ProxyDefaultsEntry,
    ServiceDefaultsEntry,
    ServiceRow,
    SourceEntry,
    Weights,
    decode,
    ip_of,
    is_name,
    name_of,
    port_of,
    rows_of,
    short,
    within,
)
from nodeagent.catalog.labels import labels_of
from nodeagent.catalog.permissions import PermissionReader, needs_token
from nodeagent.errors import CatalogError
from nodeagent.model.action import Action
from nodeagent.model.address import Address
from nodeagent.model.intention import Word, word_of
from nodeagent.model.names import is_service_name
from nodeagent.model.policy.defaults import Normalization, UpstreamConfig
from nodeagent.model.policy.intentions import Permission
from nodeagent.model.policy.own import RetryBudget
from nodeagent.model.policy.resolving import ServiceResolver
from nodeagent.model.policy.routing import ServiceRouter, ServiceSplitter
from nodeagent.model.service import Host, Instance

MARKER = "nodeagent"
"""Key of the node meta by which an agent says that it takes tunnels; its value is `15008;v1`."""

MARKER_SERVICE = "nodeagent"
"""The service of a host's agent, with the same meta, where a Consul agent keeps the node's own."""

RESTORED = "X-Nodeagent-Restored"
"""The header by which the embedded catalog tells, with its index, by which change a snapshot was put in the place of what it had."""

DEFAULT_SCOPES = ("", "default", "*")
"""Namespaces and partitions that a mesh here is in: the one that there is, and what Consul's enterprise edition says of all."""

APPLICATIONS = ("", "typical")
"""Kinds of registrations that are no proxies or gateways of Consul's own mesh."""
CONSUL = "consul"  # Consul's servers register themselves: nobody's service, and never captured
RESERVED_SERVICES = (MARKER_SERVICE, CONSUL)
"""What agents take for something else than an application, wherever it is registered."""

MAINTENANCE = ("_node_maintenance", "_service_maintenance:")
"""How the ids of the checks begin by which Consul takes a host, or an instance, out of work."""

LAN_TAGS = ("lan", "lan_ipv4", "lan_ipv6")
"""Consul's own labels of addresses that count inside the mesh."""
_FURTHER_TAG = re.compile(r"lan_ipv[46]_[0-9]{1,2}", re.ASCII)
_MARKER_FORM = re.compile(r"([0-9]{1,5});v1(?:;.*)?", re.ASCII | re.DOTALL)


Place = Literal["", "rows", "entries"]


class InstanceRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of a health answer: an instance, and its machine as that row shows it."""

    instance: Instance
    host: Host
    said_at: int = 0
    """The catalog's index when it last said something else than before."""
    registered_at: int = 0
    """The catalog's index when this instance was first registered, or when it was seen to have moved; 0: it did not say."""
    labels: bytes = b""
    """Tags and meta, as `catalog.labels` has them."""
    is_warned: bool = False
    """Whether a check warns: a resolver may leave such instances out."""


class IntentionRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One source of a service-intentions entry."""

    source: str
    destination: str
    action: Action
    """Of one with permissions deny: that holds for requests that none of them matches, and for connections that carry no HTTP."""
    note: str = ""
    """What the entry says that could not be kept."""
    permissions: tuple[Permission, ...] = ()

    @property
    def word(self) -> Word:
        """What it says, all in all."""
        return word_of(self.action, self.permissions)

    @property
    def closed(self) -> "IntentionRow":
        """A plain deny in its place, for connections and for every request."""
        return msgspec.structs.replace(self, action="deny", permissions=())


class CatalogState(msgspec.Struct, frozen=True):
    """All that the catalog said, at one moment: replaced, never changed."""

    hosts: tuple[Host, ...] = ()
    instances: Mapping[str, tuple[InstanceRow, ...]] = {}
    """By service name."""
    intentions: tuple[IntentionRow, ...] = ()
    protocols: Mapping[str, str] = {}
    """From service-defaults, by service name."""
    default_protocol: str = ""
    """From proxy-defaults; empty: not set there."""
    is_late: bool = False
    """Whether there are more services than are watched: of the others news comes now and then."""
    intentions_in: Place = ""
    """Where they were: the server's own entries, or rows with the KV store's entries in their place; empty: not known."""
    routers: Mapping[str, ServiceRouter] = {}
    """By service name; so are all that follow."""
    splitters: Mapping[str, ServiceSplitter] = {}
    resolvers: Mapping[str, ServiceResolver] = {}
    upstreams: Mapping[str, UpstreamConfig] = {}
    """How a service calls others."""
    budgets: Mapping[str, RetryBudget] = {}
    """Also `*`, for those that have none."""
    normalization: Normalization | None = None
    """Of the mesh entry."""
    unread: Mapping[str, str] = {}
    """Why an entry is not understood, by kind and name: `service-router/web`."""
    is_forgotten: bool = False
    """Whether the catalog had forgotten this host, and shows it by this agent's own word: what it lacks here is not gone for that."""


def parse_hosts(body: bytes) -> tuple[Host, ...]:
    """The machines in an answer of `/v1/catalog/nodes`, by name.

    Raises:
        CatalogError: not such an answer, or longer than the limits; names path and value.
    """
    where = "/v1/catalog/nodes"
    rows = rows_of(body, NodeRow, where, limits.CATALOG_HOSTS)
    return tuple(sorted((_host(row, f"$[{n}]", where) for n, row in enumerate(rows) if is_name(row.node)), key=lambda host: host.name))


def parse_service_names(body: bytes) -> tuple[str, ...]:
    """The service names in an answer of `/v1/catalog/services`, sorted; those that no certificate can carry are left out, and Consul itself.

    Raises:
        CatalogError: as `parse_hosts`.
    """
    where = "/v1/catalog/services"
    names = decode(body, dict[str, list[str] | None], where) or {}
    within(len(names), limits.CATALOG_SERVICES, where)
    return tuple(sorted(name for name in names if is_service_name(name) and name != CONSUL))


def parse_unusable_names(body: bytes) -> tuple[str, ...]:
    """The names in the same answer that are left out, sorted: services that are called past the mesh.

    Raises:
        CatalogError: as `parse_hosts`.
    """
    names = decode(body, dict[str, list[str] | None], "/v1/catalog/services") or {}
    return tuple(sorted(name for name in names if not is_service_name(name)))


def parse_instances(service: str, body: bytes) -> tuple[InstanceRow, ...]:
    """The instances in an answer of `/v1/health/service/SERVICE`, by host and id.

    Proxies and gateways of Consul's own mesh are left out: they speak TLS of their own, and ask intentions themselves.
    Of MARKER_SERVICE an instance is a machine's agent, and says at which further addresses the machine is.
    An instance is healthy while none of its checks is critical, nor its weight 0: with a warning, mostly, as in Consul's own mesh. Registered without an address, or under a DNS name (which
    no original destination can be compared with), it is at its machine's addresses.

    Raises:
        CatalogError: as `parse_hosts`.
    """
    where = f"/v1/health/service/{service}"
    is_marker = service == MARKER_SERVICE
    rows = rows_of(body, HealthRow, where, limits.CATALOG_MARKERS if is_marker else limits.CATALOG_INSTANCES)
    read = _try_marker_row if is_marker else instance_row
    found = (read(row, f"$[{n}]", where) for n, row in enumerate(rows) if row.service.kind in APPLICATIONS)
    return in_order(row for row in found if row is not None)


def in_order(rows: Iterable[InstanceRow]) -> tuple[InstanceRow, ...]:
    """By host and id, whatever order they came in."""
    return tuple(sorted(rows, key=lambda row: (row.instance.host, row.instance.id)))


def parse_intentions(body: bytes, reader: PermissionReader | None = None) -> tuple[IntentionRow, ...]:
    """The rows in an answer of `/v1/config/service-intentions`, by destination, source and action.

    A source with permissions, and an allow that demands a JWT, are a deny for a connection, as Consul's own
    `/v1/agent/connect/authorize` has it. Sources in another peer, partition or namespace are other services: left out.
    So is what no service can be called: who may write the intentions of one service must not keep all others' news away.
    A source whose permissions are not understood, as those of a newer Consul may be, is a deny.
    reader: of the list before this one.

    Raises:
        CatalogError: as `parse_hosts`; also for an action that is neither allow nor deny.
    """
    where = "/v1/config/service-intentions"
    entries = rows_of(body, IntentionsEntry, where, limits.CATALOG_INTENTIONS)
    within(sum(len(entry.sources or ()) for entry in entries), limits.CATALOG_INTENTIONS, where)
    reader = reader or PermissionReader()
    try:
        parsed = [
            _intention_row(entry, source, f"$[{n}].Sources[{m}]", where, reader)
            for n, entry in enumerate(entries)
            if _is_default(entry.namespace, entry.partition) and is_name(entry.name)
            for m, source in enumerate(entry.sources or ())
            if _is_default(source.namespace, source.partition) and not source.peer and not source.sameness_group and is_name(source.name)
        ]
    finally:
        reader.finish()
    return tuple(sorted(parsed, key=lambda row: (row.destination, row.source, row.action)))


def parse_service_defaults(body: bytes) -> dict[str, str]:
    """Protocol by service name, from an answer of `/v1/config/service-defaults`.

    Raises:
        CatalogError: as `parse_hosts`.
    """
    where = "/v1/config/service-defaults"
    rows = rows_of(body, ServiceDefaultsEntry, where, limits.CATALOG_SERVICES)
    return {row.name: row.protocol for row in rows if row.protocol and is_name(row.name)}


def parse_proxy_defaults(body: bytes) -> str:
    """The protocol of services that declare none, from an answer of `/v1/config/proxy-defaults`; empty: not set.

    Raises:
        CatalogError: as `parse_hosts`.
    """
    where = "/v1/config/proxy-defaults"
    for number, row in enumerate(rows_of(body, ProxyDefaultsEntry, where, limits.CATALOG_SERVICES)):
        protocol = (row.config or {}).get("protocol", "") if row.name == "global" else ""
        if not isinstance(protocol, str):
            raise CatalogError(f"{where}: $[{number}].Config.protocol is {short(protocol)}: it must be text")
        if protocol:
            return protocol
    return ""


def is_lan_tag(tag: str) -> bool:
    """Whether an address under this label counts inside the mesh: Consul's own, or a host's second (`lan_ipv4_2`)."""
    return tag in LAN_TAGS or _FURTHER_TAG.fullmatch(tag) is not None


def tunnel_port_of(marker: str) -> int:
    """The port in an agent's marker, `15008;v1`; 0 where the text is no marker of a version that we speak."""
    match = _MARKER_FORM.fullmatch(marker)
    port = int(match[1]) if match else 0
    return port if port <= 65535 else 0


def _host(row: NodeRow, path: str, where: str) -> Host:
    """A machine with its addresses, IPv4 first, and its agent's port."""
    tagged = row.tagged_addresses or {}
    texts = {"Address": row.address} | {f"TaggedAddresses.{tag}": ip for tag, ip in tagged.items() if is_lan_tag(tag)}
    found = set(_usable_ips(texts, path, where))
    return Host(
        name=name_of(row.node, f"{path}.Node", where),
        addresses=tuple(sorted(found, key=lambda ip: (":" in ip, ip))),
        tunnel_port=tunnel_port_of((row.meta or {}).get(MARKER, "")),
    )


def _usable_ips(texts: Mapping[str, str], path: str, where: str) -> Iterator[str]:
    """The addresses among `texts`. One that is none is left out: it must not keep all other machines' news away."""
    for key, text in texts.items():
        try:
            ip = ip_of(text, f"{path}.{key}", where)
        except CatalogError:
            continue
        if ip:
            yield ip


def instance_row(row: HealthRow, path: str, where: str) -> InstanceRow:
    """An instance and its machine; `path` is where it stands in the answer that messages call `where`.

    Raises:
        CatalogError: as `parse_hosts`.
    """
    host = _host(row.node, f"{path}.Node", where)
    weights, checks = row.service.weights or Weights(), row.checks or ()
    is_warned = any(check.status == "warning" for check in checks)
    weight = weights.warning if is_warned else weights.passing
    instance = Instance(
        id=row.service.id and name_of(row.service.id, f"{path}.Service.ID", where),
        host=host.name,
        addresses=_addresses(row.service, host, f"{path}.Service", where),
        weight=max(0, min(weight, limits.WEIGHT_MAX)),
        healthy=weight > 0 and all(check.status != "critical" for check in checks),
        drained=any(check.check_id.startswith(MAINTENANCE) for check in checks),
    )
    labels = labels_of(row.node, row.service, MARKER)
    return InstanceRow(instance, host, row.service.modify_index, row.service.create_index, labels, is_warned)


def _try_marker_row(row: HealthRow, path: str, where: str) -> InstanceRow | None:
    """An agent, where the row says nothing odd: each agent may write one, and it must not keep all others' news away."""
    try:
        return _marker_row(row, path, where)
    except CatalogError:
        return None


def _marker_row(row: HealthRow, path: str, where: str) -> InstanceRow:
    """An agent: the machine takes tunnels at the port that its meta names, whatever its checks say."""
    host = _host(row.node, f"{path}.Node", where)
    addresses = _addresses(row.service, host, f"{path}.Service", where)
    instance = Instance(row.service.id, host.name, addresses)
    port = tunnel_port_of((row.service.meta or {}).get(MARKER, ""))
    ips = tuple(sorted({*host.addresses, *(address.ip for address in addresses)}, key=lambda ip: (":" in ip, ip)))
    return InstanceRow(instance, Host(host.name, ips, port), row.service.modify_index)


def _addresses(service: ServiceRow, host: Host, path: str, where: str) -> tuple[Address, ...]:
    """Where an instance listens: at its own address, else at its machine's; and at its tagged LAN addresses."""
    port = port_of(service.port, f"{path}.Port", where)
    own = ip_of(service.address, f"{path}.Address", where)
    found = {Address(ip, port) for ip in ([own] if own else host.addresses)}
    for tag, at in (service.tagged_addresses or {}).items():
        if is_lan_tag(tag):
            key = f"{path}.TaggedAddresses.{tag}"
            found.add(Address(ip_of(at.address, f"{key}.Address", where), port_of(at.port, f"{key}.Port", where) or port))
    return tuple(sorted((a for a in found if a.ip and a.port), key=lambda a: (":" in a.ip, a)))


def _intention_row(entry: IntentionsEntry, source: SourceEntry, path: str, where: str, reader: PermissionReader) -> IntentionRow:
    """One source of an entry."""
    destination = entry.name.lower()  # as Consul does where it is asked for one; of a source it does not
    if source.permissions:
        permissions, note = reader.read(source.permissions, source.name, destination, has_jwt=entry.jwt is not None)
        return IntentionRow(source.name, destination, "deny", note, permissions)
    if entry.jwt is not None and source.action == "allow":
        return IntentionRow(source.name, destination, "deny", needs_token(source.name, destination))
    if source.action not in ("allow", "deny"):
        raise CatalogError(f"{where}: {path}.Action is {short(source.action)}: it must be allow or deny")
    return IntentionRow(source.name, destination, "allow" if source.action == "allow" else "deny")


def _is_default(namespace: str, partition: str) -> bool:
    """Whether this is the one namespace and partition that a mesh here has, or all of them."""
    return namespace in DEFAULT_SCOPES and partition in DEFAULT_SCOPES
