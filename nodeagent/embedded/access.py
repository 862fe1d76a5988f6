"""Who may do what in the catalog: one pure function over a caller and an act."""

import ipaddress
from typing import Literal, assert_never

import msgspec

from nodeagent.embedded.refusal import Forbidden

Kind = Literal["management", "node", "service", "read"]
"""What a token is for: everything; one host and what runs there; some services, wherever they run; looking."""

ANY_SERVICE = "*"
SERVICE_ENTRIES = ("service-defaults", "service-router", "service-splitter", "service-resolver")
"""Kinds of entries that say how a service is reached. Who may reach it is another question: that takes management."""
FIRST, MANAGED = 0, 200
"""Titles to an address: of whom the operator did not name but who came first, and of management. Between are those that a
token names, the better the longer the prefix."""
READABLE = "nodeagent/"
"""The only part of the KV store that a token for reading may read: configuration lives there, and others keep secrets."""
HOST_READABLE = "nodeagent/config/"
"""What of it a host may read, or who registers a service: not who changed what."""
TRAILS = "nodeagent/audit"
"""Below it is who changed an entry, by kind and name: whoever may change the entry leaves a trail of it."""


class Caller(msgspec.Struct, frozen=True):
    """Whom a token speaks for."""

    accessor: str
    """Names the token; not a secret."""
    kind: Kind
    node: str = ""
    """The one host that a node token is bound to."""
    services: tuple[str, ...] = ()
    """What a node token may register and get certificates for, and a service token may register; `*`: anything (labs)."""
    addresses: tuple[str, ...] = ()
    """Addresses and CIDRs that the operator named for such a token to claim."""
    fixed: tuple[str, ...] = ()
    """Where none were named: the addresses that its first registration of its host claimed."""

    @property
    def is_unbound(self) -> bool:
        """Whether the first registration is yet to say which addresses this token may claim."""
        return self.kind == "node" and not (self.addresses or self.fixed)

    def __str__(self) -> str:
        match self.kind:
            case "management":
                return "the management token"
            case "node":
                return f"the token of {self.node}"
            case "service":
                return f"the token for {', '.join(self.services)}"
            case "read":
                return "the token for reading"


NOBODY = Caller("", "node")
"""Who asks without a token where none is needed; entitled to nothing."""


class ReadMesh(msgspec.Struct, frozen=True):
    """Read hosts, services, config entries, intentions, roots."""


class ReadValues(msgspec.Struct, frozen=True):
    """Read the KV store at or below a key."""

    prefix: str


class ReadValue(msgspec.Struct, frozen=True):
    """Read one key."""

    key: str


class WriteValue(msgspec.Struct, frozen=True):
    """Store a value at one key, in the place of what was there."""

    key: str


class WriteMesh(msgspec.Struct, frozen=True):
    """Change what holds for all hosts: config entries, intentions, the KV store."""

    what: str
    verb: str = "change"


class WriteEntry(msgspec.Struct, frozen=True):
    """Change or remove one config entry."""

    kind: str
    name: str


class WriteNode(msgspec.Struct, frozen=True):
    """Register or remove a host, or put it into maintenance."""

    node: str


class RegisterService(msgspec.Struct, frozen=True):
    """Say that a service runs on a host."""

    node: str
    service: str


class RemoveService(msgspec.Struct, frozen=True):
    """Say that a service runs there no more."""

    node: str
    service: str


class SignFor(msgspec.Struct, frozen=True):
    """Get a certificate that says a service's name."""

    service: str


class ManageTokens(msgspec.Struct, frozen=True):
    """List, create and revoke tokens."""


Act = ReadMesh | ReadValues | ReadValue | WriteValue | WriteMesh | WriteEntry | WriteNode | RegisterService | RemoveService | SignFor | ManageTokens


def check_access(caller: Caller, act: Act) -> None:
    """Nothing, when `caller` may do `act`.

    Raises:
        Forbidden: names the caller and what it is entitled to.
    """
    if caller.kind == "management":
        return
    match act:
        case ReadMesh():
            return
        case ReadValues() | ReadValue() | WriteValue():
            _check_value(caller, act)
        case WriteMesh(what, verb):
            raise Forbidden(f"{caller} may not {verb} {what}: that takes a management token")
        case WriteEntry(kind, name):
            _check_entry(caller, kind, name)
        case WriteNode(node):
            _check_node(caller, node)
        case RegisterService() | RemoveService() | SignFor():
            _check_for_service(caller, act)
        case ManageTokens():
            raise Forbidden(f"{caller} may not manage tokens: that takes a management token")
        case _:
            assert_never(act)


def title_of(caller: Caller, ip: str, *, is_host: bool) -> int:
    """By what title `caller` claims the address `ip`, for a host or for a service; the greater one wins.

    A stolen host token must not draw an address to itself that is not its host's.

    Raises:
        Forbidden: it may not; with the cure.
    """
    if caller.kind == "management":
        return MANAGED
    address = ipaddress.ip_address(ip)
    networks = [ipaddress.ip_network(text) for text in caller.addresses]
    prefixes = [network.prefixlen for network in networks if address in network]
    if prefixes:
        return 1 + max(prefixes)
    if ip in caller.fixed or (is_host and caller.is_unbound):
        return FIRST
    own = ", ".join(caller.addresses or caller.fixed) or "the addresses of its host"
    raise Forbidden(
        f"{caller} may not claim {ip}: it is for {own}; that takes a management token, or one made with --address {ip}"
    )


def parse_claimable(text: str) -> str:
    """The one spelling of an address or CIDR that a token may name.

    Raises:
        ValueError: not one, or with bits beyond its prefix.
    """
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text!r} is an IPv4 address in IPv6 clothes: write it as IPv4")
    if "%" in text:
        raise ValueError(f"{text!r} names an interface: it is an address of one link, not of the mesh")
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def _check_for_service(caller: Caller, act: RegisterService | RemoveService | SignFor) -> None:
    match act:
        case RegisterService(node, service):
            _check_place(caller, node)
            _check_service(caller, service, "register")
        case RemoveService(node, service):
            _check_place(caller, node)
            if caller.kind != "node":  # a host says what does not run there, whatever it is called
                _check_service(caller, service, "remove")
        case SignFor(service):
            if caller.kind != "node":
                raise Forbidden(f"{caller} may not get a certificate: that takes the token of the host where the service runs")
            _check_service(caller, service, "get a certificate for")


def _check_value(caller: Caller, act: ReadValues | ReadValue | WriteValue) -> None:
    if not isinstance(act, ReadValues) and caller.kind == "service" and act.key in _trails(caller):
        return
    if isinstance(act, WriteValue):
        raise Forbidden(f"{caller} may not change the KV store: that takes a management token")
    name = act.prefix if isinstance(act, ReadValues) else act.key
    below = READABLE if caller.kind == "read" else HOST_READABLE
    if not name.startswith(below):
        raise Forbidden(f"{caller} may read keys below {below} only, not {name[:80]!r}")


def _trails(caller: Caller) -> set[str]:
    """The keys of the trails of the entries that a service's token may change."""
    return {f"{TRAILS}/{kind}/{service}" for kind in SERVICE_ENTRIES for service in caller.services if service != ANY_SERVICE}


def _check_entry(caller: Caller, kind: str, name: str) -> None:
    if caller.kind != "service" or kind not in SERVICE_ENTRIES:
        raise Forbidden(f"{caller} may not change config entries of the kind {kind}: that takes a management token")
    _check_service(caller, name, "change the config entries of")


def _check_place(caller: Caller, node: str) -> None:
    """A service's token is for it wherever it runs."""
    if caller.kind != "service":
        _check_node(caller, node)


def _check_node(caller: Caller, node: str) -> None:
    if caller.kind != "node":
        raise Forbidden(f"{caller} may not change {node}: that takes its own token, or a management token")
    if node != caller.node:
        raise Forbidden(f"{caller} may not change {node}: a host's token is for that host alone")


def _check_service(caller: Caller, service: str, verb: str) -> None:
    if ANY_SERVICE not in caller.services and service not in caller.services:
        own = ", ".join(caller.services) or "no service"
        raise Forbidden(f"{caller} may not {verb} service {service}: it speaks for {own}")
