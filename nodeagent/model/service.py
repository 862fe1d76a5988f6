"""Who is at the far end: services, their instances and the hosts they run on."""

from typing import Literal

import msgspec

from nodeagent.model.address import Address
from nodeagent.model.intention import Intention

Protocol = Literal["tcp", "http", "http2", "grpc"]
Mode = Literal["observe", "permissive", "strict"]


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
