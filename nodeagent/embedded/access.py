"""Who may do what in the catalog: one pure function over a caller and an act."""

from typing import Literal, assert_never

import msgspec

from nodeagent.embedded.refusal import Forbidden

ANY_SERVICE = "*"
HOST_READABLE = "nodeagent/"
"""The only part of the KV store that a host may read: its own configuration lives there, and others keep secrets."""


class Caller(msgspec.Struct, frozen=True):
    """Whom a token speaks for."""

    accessor: str
    """Names the token; not a secret."""
    kind: Literal["management", "node"]
    node: str = ""
    """The one host that a node token is bound to."""
    services: tuple[str, ...] = ()
    """What a node token may register and get certificates for; `*`: anything (labs)."""

    def __str__(self) -> str:
        return f"the token of {self.node}" if self.kind == "node" else "the management token"


class ReadMesh(msgspec.Struct, frozen=True):
    """Read hosts, services, config entries, intentions, roots."""


class ReadValues(msgspec.Struct, frozen=True):
    """Read the KV store at or below a key."""

    prefix: str


class WriteMesh(msgspec.Struct, frozen=True):
    """Change what holds for all hosts: config entries, intentions, the KV store."""

    what: str


class WriteNode(msgspec.Struct, frozen=True):
    """Register or remove a host, or remove one of its services."""

    node: str


class RegisterService(msgspec.Struct, frozen=True):
    """Say that a service runs on a host."""

    node: str
    service: str


class SignFor(msgspec.Struct, frozen=True):
    """Get a certificate that says a service's name."""

    service: str


class ManageTokens(msgspec.Struct, frozen=True):
    """List, create and revoke tokens."""


Act = ReadMesh | ReadValues | WriteMesh | WriteNode | RegisterService | SignFor | ManageTokens


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
        case ReadValues(prefix):
            if not prefix.startswith(HOST_READABLE):
                raise Forbidden(f"{caller} may read keys below {HOST_READABLE} only, not {prefix!r}")
        case WriteMesh(what):
            raise Forbidden(f"{caller} may not change {what}: that takes a management token")
        case WriteNode(node):
            _check_node(caller, node)
        case RegisterService(node, service):
            _check_node(caller, node)
            _check_service(caller, service, "register")
        case SignFor(service):
            _check_service(caller, service, "get a certificate for")
        case ManageTokens():
            raise Forbidden(f"{caller} may not manage tokens: that takes a management token")
        case _:
            assert_never(act)


def check_claim(caller: Caller, node: str, ip: str, holder: str) -> None:
    """Nothing, when `caller` may say that `node` has the address `ip`, which the host `holder` has (empty: none).

    A stolen host token must not draw another host's address to itself.

    Raises:
        Forbidden: names both hosts.
    """
    if caller.kind == "node" and holder not in ("", node):
        raise Forbidden(
            f"{caller} may not claim {ip}: it belongs to {holder}; if {holder} is gone, deregister it first"
        )


def _check_node(caller: Caller, node: str) -> None:
    if node != caller.node:
        raise Forbidden(f"{caller} may not change {node}: a host's token is for that host alone")


def _check_service(caller: Caller, service: str, verb: str) -> None:
    if ANY_SERVICE not in caller.services and service not in caller.services:
        own = ", ".join(caller.services) or "no service"
        raise Forbidden(f"{caller} may not {verb} service {service}: it speaks for {own}")
