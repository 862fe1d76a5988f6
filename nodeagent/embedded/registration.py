"""Hosts and services as Consul's clients register them, checked and turned into our rows."""

import ipaddress
from typing import Annotated, Any

import msgspec

from nodeagent import limits
from nodeagent.catalog.state import RESERVED_SERVICES
from nodeagent.embedded.body import shaped
from nodeagent.embedded.names import HostName, Name
from nodeagent.embedded.refusal import BadRequest
from nodeagent.model.address import canonical_ip, special_kind

Key = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{1,128}\Z")]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Tag = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{1,255}\Z")]
Meta = Annotated[
    dict[
        Annotated[str, msgspec.Meta(min_length=1, max_length=limits.META_KEY_BYTES)],
        Annotated[str, msgspec.Meta(max_length=limits.META_VALUE_BYTES)],
    ],
    msgspec.Meta(max_length=limits.META_PAIRS),
]
Tags = Annotated[tuple[Tag, ...], msgspec.Meta(max_length=limits.TAGS)]
LABELS = 16  # tagged addresses: Consul itself uses eight labels

_SERVICE_UNSUPPORTED = (
    "Check", "Checks", "Kind", "Proxy", "Connect", "EnableTagOverride", "Locality", "Namespace", "Partition",
    "SocketPath", "Ports", "PeerName", "Token",
)  # fmt: skip
_NODE_UNSUPPORTED = ("Namespace", "Partition", "PeerName", "Locality")


class TaggedAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """One more address of a service, under a label such as `lan_ipv6`."""

    address: str
    port: Port = 0


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Shares of an instance among its kind."""

    passing: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 1
    warning: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 1


class NodeRow(msgspec.Struct, frozen=True):
    """A host, as registered."""

    name: str
    id: str
    address: str
    tagged: dict[str, str] = {}
    meta: dict[str, str] = {}

    def ips(self) -> set[str]:
        """Every address that it claims."""
        return {self.address, *self.tagged.values()}


class ServiceRow(msgspec.Struct, frozen=True):
    """An instance of a service, as registered."""

    node: str
    id: str
    name: str
    port: int = 0
    address: str = ""
    """Empty: every address of the host."""
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = {}
    weights: Weights = Weights()
    tagged: dict[str, TaggedAddress] = {}

    def ips(self) -> set[str]:
        """Every address that it claims besides its host's."""
        return {ip for ip in (self.address, *(tagged.address for tagged in self.tagged.values())) if ip}


class Registered(msgspec.Struct, frozen=True):
    """What one `/v1/catalog/register` asks for."""

    node: str
    node_row: NodeRow | None
    """None: SkipNodeUpdate."""
    service_row: ServiceRow | None


class Removal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"node": "Node", "service_id": "ServiceID", "check_id": "CheckID", "datacenter": "Datacenter"}):  # fmt: skip
    """What one `/v1/catalog/deregister` asks for: a host, or one service or check of it."""

    node: HostName
    service_id: str = ""
    check_id: str = ""
    datacenter: str = ""


class _Instance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal", kw_only=True):
    """What both ways to register an instance have in common; each has another key for its name."""

    id: Key | None = msgspec.field(name="ID", default=None)
    port: Port = 0
    address: str = ""
    tags: Tags = ()
    meta: Meta = {}
    weights: Weights = Weights()
    tagged_addresses: dict[str, TaggedAddress] = {}


class _AgentService(_Instance, frozen=True, kw_only=True):
    name: Name


class _CatalogService(_Instance, frozen=True, kw_only=True):
    service: Name


class _Register(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    node: HostName
    id: Annotated[str, msgspec.Meta(max_length=64)] = msgspec.field(name="ID", default="")
    address: str = ""
    datacenter: str = ""
    tagged_addresses: dict[str, str] = {}
    node_meta: Meta = {}
    service: dict[str, Any] | None = None
    skip_node_update: bool = False


def parse_agent_service(body: dict[str, Any], node: str) -> ServiceRow:
    """The service of one `/v1/agent/service/register` on the host `node`.

    Raises:
        BadRequest: not a valid service.
        Missing: asks for what this catalog has not, such as a sidecar.
    """
    asked = shaped(body, _AgentService, _SERVICE_UNSUPPORTED)
    return _service_row(asked, asked.name, node, "")


def parse_registration(body: dict[str, Any], datacenter: str) -> Registered:
    """The host and service of one `/v1/catalog/register`.

    Raises:
        BadRequest: not a valid registration, or for another datacenter.
        Missing: asks for what this catalog has not, such as a sidecar.
    """
    asked = shaped(body, _Register, _NODE_UNSUPPORTED)
    check_datacenter(asked.datacenter, datacenter)
    service_row = None
    if asked.service is not None:
        service = shaped(asked.service, _CatalogService, _SERVICE_UNSUPPORTED, "Service")
        service_row = _service_row(service, service.service, asked.node, "Service.")
    return Registered(asked.node, None if asked.skip_node_update else _node_row(asked), service_row)


def parse_removal(body: dict[str, Any], datacenter: str) -> Removal:
    """What one `/v1/catalog/deregister` removes.

    Raises:
        BadRequest, Missing: as above.
    """
    asked = shaped(body, Removal, ("Namespace", "Partition"))
    check_datacenter(asked.datacenter, datacenter)
    return asked


def check_datacenter(asked: str, datacenter: str) -> None:
    """Nothing, when `asked` is this catalog's datacenter or empty.

    Raises:
        BadRequest: it is another one.
    """
    if asked not in ("", datacenter):
        raise BadRequest(f"no path to datacenter {asked!r}: this catalog is {datacenter}'s")


def _node_row(asked: _Register) -> NodeRow:
    if not asked.address:
        raise BadRequest("Address: give the host's IP address, or SkipNodeUpdate")
    tagged = {label: _ip(ip, f"TaggedAddresses.{label}") for label, ip in _labelled(asked.tagged_addresses, "")}
    return NodeRow(str(asked.node), asked.id, _ip(asked.address, "Address"), tagged, asked.node_meta)


def _service_row(asked: _Instance, name: str, node: str, where: str) -> ServiceRow:
    tagged = {
        label: TaggedAddress(_ip(at.address, f"{where}TaggedAddresses.{label}.Address"), at.port)
        for label, at in _labelled(asked.tagged_addresses, where)
    }
    address = _ip(asked.address, f"{where}Address") if asked.address else ""
    name = str(name)
    if name in RESERVED_SERVICES:
        raise BadRequest(f"{where}{'Service' if where else 'Name'}: {name!r} is reserved: agents take it for no application; use another name")
    return ServiceRow(
        str(node), asked.id or name, name, asked.port, address, asked.tags, asked.meta, asked.weights, tagged
    )  # fmt: skip


def _labelled(addresses: dict[str, Any], where: str) -> list[tuple[str, Any]]:
    if len(addresses) > LABELS or any(not label or len(label) > 64 for label in addresses):
        raise BadRequest(f"{where}TaggedAddresses: at most {LABELS} labels of 1 to 64 characters")
    return list(addresses.items())


def _ip(text: str, key: str) -> str:
    """The one spelling of an address that a host or service can have."""
    try:
        ip = ipaddress.ip_address(canonical_ip(text))
    except ValueError:
        raise BadRequest(f"{key}: {text[:80]!r} is not an IP address") from None
    if special_kind(ip) not in ("", "loopback"):
        raise BadRequest(f"{key}: {ip} is not the address of one host in the mesh")
    return str(ip)
