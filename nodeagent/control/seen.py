"""What the catalog said last, piece by piece, until it is enough for a CatalogState."""

from collections import ChainMap
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Never, Self

from nodeagent.catalog.buckets import Buckets
from nodeagent.catalog.diff import differing
from nodeagent.catalog.markers import Claim, Marked, with_markers
from nodeagent.catalog.state import MARKER_SERVICE, CatalogState, IntentionRow
from nodeagent.control.hold_back import Rows, release_taken
from nodeagent.model.service import Host


class Noted(dict[str, Rows]):
    """Rows by service, and which of them were written since `take`: most changes are of one service."""

    def __init__(self, rows: Mapping[str, Rows] | None = None) -> None:
        super().__init__(rows or {})
        self._unlike = set(self)

    def take(self) -> set[str]:
        """The services that were written, or went, since the last call."""
        unlike, self._unlike = self._unlike, set()
        return unlike

    def __setitem__(self, service: str, rows: Rows) -> None:
        self._unlike.add(service)
        super().__setitem__(service, rows)

    def __delitem__(self, service: str) -> None:
        self._unlike.add(service)
        super().__delitem__(service)

    def __ior__(self, rows: Mapping[str, Rows]) -> Self:  # type: ignore[override,misc]  # dict's takes pairs, too
        for service, some in rows.items():
            self[service] = some
        return self

    def _refuse(self, *_: object, **__: object) -> Never:
        raise TypeError("such a write would not be noted")

    pop = popitem = clear = update = setdefault = _refuse


@dataclass(slots=True)
class Seen:
    """The pieces; None: not heard yet. Owned by the follower."""

    hosts: tuple[Host, ...] | None = None
    names: tuple[str, ...] | None = None
    """Services that the catalog lists."""
    intentions: tuple[IntentionRow, ...] | None = None
    protocols: dict[str, str] | None = None
    default_protocol: str | None = None
    instances: dict[str, Rows] = field(default_factory=Noted)
    held: dict[str, Rows] = field(default_factory=dict)
    """Those of `instances` that the last answer no longer had."""
    saved: dict[str, Rows] = field(default_factory=dict)
    """What was known of instances before this process started, and of markers; counts for a service that was not heard yet, listed or not."""
    unusable: tuple[str, ...] = ()
    """Names in the catalog that no service of the mesh can have."""
    refused: tuple[Claim, ...] = ()
    """Addresses that agents claim and that are not theirs, as of the last `state`."""
    _said: Buckets[Rows] = field(default_factory=Buckets)
    """The instances of the last `state`."""
    _saved_before: dict[str, Rows] = field(default_factory=dict)
    """What was saved then."""
    _is_cut: bool = False
    """Whether some that were held are not in it."""
    _marked: tuple[tuple[Host, ...], Rows, Marked] | None = None
    """What the last `state` made of hosts and markers: most changes are of neither."""

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
        rows = (row.instance for row in self.instances.get(service, ()) if row.instance.host == host and not row.instance.gone)
        return any(service in wanted or any(address.port in wanted for address in instance.addresses) for instance in rows)

    def state(self) -> CatalogState:
        """All of it as one value; what is missing counts as empty."""
        heard = self._heard()
        hosts, self.refused = self._with_markers(self.hosts or (), heard.get(MARKER_SERVICE, ()))
        return CatalogState(
            hosts=hosts,
            instances=self._said,
            intentions=self.intentions or (),
            protocols=self.protocols or {},
            default_protocol=self.default_protocol or "",
        )

    def _heard(self) -> Mapping[str, Rows]:
        """What was heard of services, else what was saved; of what is held nothing that others have taken.

        `_said` gets the same, but for the agents; only where something is held each service is looked at for that.
        """
        if not isinstance(self.instances, Noted):
            self.instances = Noted(self.instances)
        names = self.instances.take() | self.saved.keys() | self._saved_before.keys()
        was_cut, self._is_cut, self._saved_before = self._is_cut, any(self.held.values()), self.saved
        heard: Mapping[str, Rows] = ChainMap(self.instances, self.saved)
        if self._is_cut or was_cut:
            heard = release_taken(self.saved | self.instances, self.held)
            names = differing(self._said, heard)
        self._said = self._said.changed({name: heard.get(name) for name in names if name != MARKER_SERVICE})
        return heard

    def _with_markers(self, hosts: tuple[Host, ...], rows: Rows) -> Marked:
        if self._marked is None or self._marked[0] is not hosts or self._marked[1] is not rows:
            self._marked = hosts, rows, with_markers(hosts, rows)
        return self._marked[2]

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
