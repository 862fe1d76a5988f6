"""What the catalog said last, piece by piece, until it is enough for a CatalogState."""

from dataclasses import dataclass, field

from nodeagent.catalog.state import CatalogState, IntentionRow
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

    def missing(self) -> tuple[str, ...]:
        """What must be heard before the mesh can be compiled for the first time: a part of it would be a hole in it."""
        named = {
            "nodes": self.hosts, "services": self.names, "service-intentions": self.intentions,
            "service-defaults": self.protocols, "proxy-defaults": self.default_protocol,
        }  # fmt: skip
        silent = [f"health of {name}" for name in self.names or () if name not in self.instances]
        return (*(name for name, value in named.items() if value is None), *silent)

    def state(self) -> CatalogState:
        """All of it as one value; what is missing counts as empty."""
        return CatalogState(
            hosts=self.hosts or (),
            instances=release_taken(self.instances, self.held),
            intentions=self.intentions or (),
            protocols=dict(self.protocols or {}),
            default_protocol=self.default_protocol or "",
        )

    def watched_names(self) -> tuple[str, ...]:
        """Services whose health is of interest: those listed, and those that still have instances here."""
        return tuple(sorted({*(self.names or ()), *(name for name, rows in self.instances.items() if rows)}))

    def forget_unlisted(self) -> None:
        """Drops what is neither listed nor has instances."""
        for name in self.instances.keys() - set(self.watched_names()):
            del self.instances[name]
