"""Who is at the far end: services, their instances and the hosts they run on."""

import re
from typing import Literal

import msgspec

from nodeagent.limits import CATALOG_NAME_CHARS
from nodeagent.model.address import Address
from nodeagent.model.intention import Intention

Protocol = Literal["tcp", "http", "http2", "grpc"]
Mode = Literal["observe", "permissive", "strict"]

NAME_PATTERN = r"[a-z0-9]([a-z0-9_.-]{0,126}[a-z0-9])?"
"""Of services and datacenters: what an SNI, a SPIFFE path segment and a systemd unit name can all carry.

Lower case alone, since an SNI has no other: `Web` would be a service that no tunnel reaches.
"""
NAME_RULE = "lower-case letters, digits, and inner - . _, 128 at most"
"""The pattern in words, for messages."""

HOST_NAME_PATTERN = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?"
"""Of hosts: they are in no SNI, and Consul's nodes are often called as their machines are."""
HOST_NAME_RULE = "letters, digits, and inner - . _, 128 at most"
"""The pattern in words, for messages."""

_NAME = re.compile(NAME_PATTERN, re.ASCII)
_HOST_NAME = re.compile(HOST_NAME_PATTERN, re.ASCII)


def is_service_name(text: str) -> bool:
    """Whether a service of the mesh can be called this; `*` and the empty name cannot."""
    return _NAME.fullmatch(text) is not None


def is_host_name(text: str) -> bool:
    """Whether a host of the mesh can be called this."""
    return _HOST_NAME.fullmatch(text) is not None


def name_complaint(text: str, what: str = "a service") -> str:
    """Why nothing can be called this, with the cure."""
    lowered = text.lower()
    cure = f"; call it {lowered}" if lowered != text and is_service_name(lowered) else ""
    return f"{text[:CATALOG_NAME_CHARS]!r} cannot name {what}: use {NAME_RULE}{cure}"


class Instance(msgspec.Struct, frozen=True, gc=False):
    """One registered copy of a service."""

    id: str
    host: str
    """Consul's node name."""
    addresses: tuple[Address, ...]
    """Every address it was registered under: IPv4, IPv6, or both."""
    weight: int = 1
    healthy: bool = True
    drained: bool = False
    """It takes no new work, by its operator's wish. Balancers skip it; whoever calls its address meets it all the same."""
    gone: bool = False
    """The catalog has it no more. For a while it stands for its address all the same, where nobody else does: no call there is to leave in clear."""


class Service(msgspec.Struct, frozen=True):
    """A service as this host's agent needs it."""

    name: str
    protocol: Protocol = "tcp"
    instances: tuple[Instance, ...] = ()
    intentions: tuple[Intention, ...] = ()
    """Those with this destination by name, most specific source first; wildcards are the snapshot's."""
    mode: Mode | None = None
    """This host's mode for the service, where it differs from the host's."""

    def is_on(self, host: str) -> bool:
        """Whether an instance is on that machine."""
        return any(instance.host == host for instance in self.instances)


class Host(msgspec.Struct, frozen=True):
    """A machine of the mesh."""

    name: str
    addresses: tuple[str, ...]
    """Canonical IP addresses, IPv4 first."""
    tunnel_port: int = 0
    """Where its agent takes tunnels; 0: no agent is known there."""
