"""What the catalog said last, piece by piece, until it is enough for a CatalogState."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from nodeagent.catalog.markers import Claim, with_markers
from nodeagent.catalog.state import MARKER_SERVICE, CatalogState, IntentionRow
from nodeagent.control.hold_back import Rows, release_taken
from nodeagent.model.service import Host


@dataclass(slots=True)
class Seen:
    """The pieces; None: not heard yet. Owned by the follower."""

    hosts: tuple[Host, ...] | None = None
    names: tuple[str, ...] | None = None
    """Services that the catalog lists."""
    intentions: tuple[IntentionRow, ...] | None = None
    protocols: dict[str, str] | None = None
    default_protocol: str | None = None
    instances: dict[str, Rows] = field(default_factory=dict)
    held: dict[str, Rows] = field(default_factory=dict)
    """Those of `instances` that the last answer no longer had."""
    saved: dict[str, Rows] = field(default_factory=dict)
    """What was known of instances before this process started, and of markers; counts for a service that was not heard yet, listed or not."""
    unusable: tuple[str, ...] = ()
    """Names in the catalog that no service of the mesh can have."""
    refused: tuple[Claim, ...] = ()
    """Addresses that agents claim and that are not theirs, as of the last `state`."""

    def missing(self) -> tuple[str, ...]:
        """Which of the lists were not heard yet: without one of them nothing can be compiled."""
        named = {
            "nodes": self.hosts, "services": self.names, "service-intentions": self.intentions,
            "service-defaults": self.protocols, "proxy-defaults": self.default_protocol,
        }  # fmt: skip
        return tuple(name for name, value in named.items() if value is None)

    def unheard(self) -> tuple[str, ...]:
        """The services that are listed, or saved, and whose instances were not heard yet."""
        return tuple(name for name in dict.fromkeys((*(self.names or ()), *self.saved)) if name not in self.instances)

    def before(self, service: str) -> Rows:
        """What was known of a service's instances when its last answer came."""
        return self.instances[service] if service in self.instances else self.saved.get(service, ())

    def has(self, service: str, host: str, wanted: AbstractSet[int | str]) -> bool:
        """Whether an instance on that host is known, at one of these ports, or at any where the service's name is among them."""
        rows = (row.instance for row in self.instances.get(service, ()) if row.instance.host == host)
        return any(service in wanted or any(address.port in wanted for address in instance.addresses) for instance in rows)

    def state(self) -> CatalogState:
        """All of it as one value; what is missing counts as empty."""
        saved = {name: self.saved[name] for name in self.unheard() if name in self.saved}
        instances = release_taken(saved | self.instances, self.held)
        hosts, self.refused = with_markers(self.hosts or (), instances.pop(MARKER_SERVICE, ()))
        return CatalogState(
            hosts=hosts,
            instances=instances,
            intentions=self.intentions or (),
            protocols=dict(self.protocols or {}),
            default_protocol=self.default_protocol or "",
        )

    def watched_names(self) -> tuple[str, ...]:
        """Services whose health is of interest, the agents first: those listed, and those that have instances here, or had when last heard.

        A list says as little of what a token may not read as an answer. The agents once heard are heard for ever: one may be this host's.
        """
        names = {*(self.names or ()), *self.saved, *(name for name, rows in self.instances.items() if rows or name == MARKER_SERVICE)}
        return tuple(sorted(names, key=lambda name: (name != MARKER_SERVICE, name)))

    def forget_unlisted(self) -> None:
        """Drops what is neither listed nor has instances, and what was saved of a service that was heard."""
        self.saved = {name: rows for name, rows in self.saved.items() if name not in self.instances}
        for name in self.instances.keys() - set(self.watched_names()):
            del self.instances[name]
        for name in self.held.keys() - self.instances.keys():
            del self.held[name]
