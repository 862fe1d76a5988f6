"""Who is at the far end: services, their instances and the hosts they run on."""

from typing import Literal

import msgspec

from nodeagent.model.address import Address
from nodeagent.model.intention import Intention
from nodeagent.model.policy.defaults import UpstreamConfig
from nodeagent.model.traffic import Traffic

Protocol = Literal["tcp", "http", "http2", "grpc"]
Mode = Literal["observe", "permissive", "strict"]


class Instance(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
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
    subsets: tuple[str, ...] = ()
    """Those of its service's resolver that it is in."""


class Service(msgspec.Struct, frozen=True, omit_defaults=True):
    """A service as this host's agent needs it."""

    name: str
    protocol: Protocol = "tcp"
    instances: tuple[Instance, ...] = ()
    intentions: tuple[Intention, ...] = ()
    """Those with this destination by name, most specific source first; wildcards are the snapshot's."""
    mode: Mode | None = None
    """This host's mode for the service, where it differs from the host's."""
    traffic: Traffic | None = None
    """What is said of requests to it; None: nothing."""
    upstreams: UpstreamConfig | None = None
    """How it calls others, as its own service-defaults say."""

    @property
    def is_routed(self) -> bool:
        """Whether each request to it is given a way of its own, whatever instance's address was dialled."""
        return self.traffic is not None and self.traffic.is_routed

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
