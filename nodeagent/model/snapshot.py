"""The mesh as one immutable value: all that a decision may depend on."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from nodeagent.model.address import Address
from nodeagent.model.intention import Intention
from nodeagent.model.policy.defaults import Normalization
from nodeagent.model.service import Host, Instance, Mode, Service
from nodeagent.model.workload import WorkloadRule

Units = Literal["registered", "any"] | tuple[str, ...]
Fail = Literal["closed", "open"]


class Mesh(msgspec.Struct, frozen=True):
    """What is true for the whole host: names, modes, and whose unit speaks as which service."""

    trust_domain: str
    datacenter: str
    host: str
    mode: Mode = "strict"
    unregistered: Literal["passthrough", "refuse"] = "passthrough"
    plaintext_ok: tuple[str, ...] = ()
    """Services on hosts without an agent that may be called in clear in strict mode."""
    loopback_enforced: tuple[str, ...] = ()
    """Services of this host that are protected on loopback addresses, too."""
    workloads: tuple[WorkloadRule, ...] = ()
    units: Units = "registered"
    """Which units speak as the service of their own name, where no rule names them."""
    fail: Fail = "closed"
    """While the agent is dead new connections are refused, or bypass it: where nothing else is said."""
    fail_open: tuple[str, ...] = ()
    fail_closed: tuple[str, ...] = ()
    """Services for which something else is said."""
    is_late: bool = False
    """Whether there are services of which news comes now and then: at a port of a host with an agent somebody may be registered by now."""

    dial_instance: tuple[str, ...] = ()
    """Callers whose requests go to the very instance that they dial, also where the operator asked for routing."""
    normalization: Normalization | None = None
    """What the mesh entry says of paths that rules read; None: nothing, and paths are made normal."""

    @property
    def unnamed_fail(self) -> Fail:
        """At ports where no service is registered: what is refused while the agent lives is so without it."""
        return "open" if self.fail == "open" and self.unregistered == "passthrough" else "closed"


class Registration(NamedTuple):
    """A registered (address, port): which service, which of its instances."""

    service: Service
    instance: Instance


class Nearby(NamedTuple):
    """What of a mesh is this host's business by itself: found by looking at all of it, or kept by whoever made it."""

    services: frozenset[str]
    """Those with an instance on this host."""
    unowned: frozenset[Address]
    """Registered addresses that are no machine's."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One generation of the mesh, with the indexes that decisions ask. Made by `catalog.compiler` only."""

    generation: int
    mesh: Mesh
    services: Mapping[str, Service]
    hosts: Mapping[str, Host]
    wildcards: tuple[Intention, ...] = ()
    """Intentions with destination `*`, most specific source first."""
    by_address: Mapping[Address, Registration] = field(default_factory=dict)
    host_by_ip: Mapping[str, Host] = field(default_factory=dict)
    local_by_port: Mapping[int, Registration] = field(default_factory=dict)
    """This host's own registrations, by port: local callers may dial any local address."""

    nearby: Nearby | None = field(default=None, compare=False)
    """None: look for it."""

    def local_names(self) -> frozenset[str]:
        """Services with an instance on this host."""
        if self.nearby:
            return self.nearby.services
        return frozenset(service.name for service in self.services.values() if service.is_on(self.mesh.host))

    def local_services(self) -> Mapping[int, frozenset[str]]:
        """Every service that is registered on this host, by port: also where another decides, at all or at most addresses."""
        found: defaultdict[int, set[str]] = defaultdict(set)
        for name in self.local_names():
            for instance in self.services[name].instances:
                if instance.host == self.mesh.host:
                    for address in instance.addresses:
                        found[address.port].add(name)
        return {port: frozenset(names) for port, names in found.items()}
