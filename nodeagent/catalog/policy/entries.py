"""The kinds of entries, and the way of a document into one: sound, or refused with all that is wrong."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nodeagent.catalog.policy import defaults, intentions, jwt, own, resolving, routing
from nodeagent.catalog.policy.acted import unacted_on
from nodeagent.catalog.policy.faults import Fault, capped, unrelated
from nodeagent.catalog.policy.fitting import fit, fold
from nodeagent.catalog.policy.patterns import number_faults
from nodeagent.errors import PolicyError
from nodeagent.model.intention import Intention
from nodeagent.model.policy.defaults import MeshEntry, ProxyDefaults, ServiceDefaults
from nodeagent.model.policy.intentions import ServiceIntentions
from nodeagent.model.policy.jwt import JwtProvider
from nodeagent.model.policy.own import Fault as FaultEntry
from nodeagent.model.policy.own import Mirror, RateLimit, RetryBudget
from nodeagent.model.policy.resolving import ServiceResolver
from nodeagent.model.policy.routing import ServiceRouter, ServiceSplitter
from nodeagent.model.policy.values import body_of
from nodeagent.tables import suggest

Spec = (
    ServiceIntentions | ServiceDefaults | ProxyDefaults | MeshEntry | ServiceRouter | ServiceSplitter | ServiceResolver
    | JwtProvider | Mirror | FaultEntry | RetryBudget | RateLimit
)  # fmt: skip
OWN_PREFIX = "nodeagent/config"
"""Where the KV store has what no config entry can be: `nodeagent/config/<kind>/<name>`."""
AUDIT_PREFIX = "nodeagent/audit"
"""Where the KV store has the trail of each entry: `nodeagent/audit/<kind>/<name>`."""
INTENTIONS = "service-intentions"
_MARKS = ("createindex", "modifyindex", "hash")
"""What a reader gets and may send back."""
_UNREAD = ("Config", "EnvoyExtensions", "JWKSCluster", "Meta")
_NAMED = ("Subsets", "Failover")
"""Tables by names that are chosen: each is something, whatever it says."""
_NAME_CHARS = 80


def _nothing(_spec: Any) -> Iterator[Fault]:
    yield from ()


class Kind(NamedTuple):
    """One kind of entry."""

    name: str
    shape: type[Any]
    faults: Callable[[Any], Iterable[Fault]]
    doubts: Callable[[Any], Iterable[Fault]] = _nothing
    only_name: str = ""
    """There is one such entry, and it is called this."""
    is_own: bool = False
    """Consul has no such kind."""


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("proxy-defaults", ProxyDefaults, defaults.proxy_faults, only_name="global"),
        Kind("mesh", MeshEntry, defaults.mesh_faults, only_name="mesh"),
        Kind("service-defaults", ServiceDefaults, defaults.service_faults),
        Kind("jwt-provider", JwtProvider, jwt.jwt_faults),
        Kind("service-resolver", ServiceResolver, resolving.resolver_faults, resolving.resolver_doubts),
        Kind("service-splitter", ServiceSplitter, routing.splitter_faults),
        Kind("service-router", ServiceRouter, routing.router_faults, routing.router_doubts),
        Kind("service-intentions", ServiceIntentions, intentions.intentions_faults),
        Kind("mirror", Mirror, own.mirror_faults, is_own=True),
        Kind("fault", FaultEntry, own.fault_faults, is_own=True),
        Kind("retry-budget", RetryBudget, own.budget_faults, is_own=True),
        Kind("rate-limit", RateLimit, own.rate_faults, is_own=True),
    )
}
"""In the order in which they are written: what others refer to comes first."""


class Key(NamedTuple):
    """Which entry."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A sound entry."""

    spec: Spec
    index: int | None = None
    """The ModifyIndex that its document carried: it is a change of that very state."""

    @property
    def key(self) -> Key:
        """Its kind and name."""
        return Key(self.spec.kind, self.spec.name)

    @property
    def body(self) -> dict[str, Any]:
        """It as JSON has it."""
        return body_of(self.spec)

    @property
    def said(self) -> dict[str, Any]:
        """What it says, however it was written: to be compared with another one."""
        body = self.body
        if isinstance(self.spec, ServiceIntentions):
            body["Sources"] = [_bare_source(source) for source in sorted(body["Sources"], key=_rank(self.spec.name))]
        said: dict[str, Any] = _without_empty(body)
        return said

    @property
    def doubts(self) -> list[str]:
        """What can be kept and is hardly meant."""
        return [f"{self.key}: {doubt}" for doubt in KINDS[self.key.kind].doubts(self.spec)]


def find_kind(name: object) -> Kind:
    """The kind of that name.

    Raises:
        PolicyError: there is none, with those that there are.
    """
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        shown = str(name)[:_NAME_CHARS]
        raise PolicyError(f"{shown!r} is no kind of entry{suggest(shown, KINDS)}; known: {', '.join(KINDS)}")
    return kind


def read_entry(document: object) -> Entry:
    """The entry that a document says.

    Raises:
        PolicyError: what is wrong with it, all at once, each with its path.
    """
    if not isinstance(document, Mapping):
        raise PolicyError("an entry is an object with Kind and Name")
    said = {fold(key): value for key, value in document.items() if isinstance(key, str)}
    if "kind" not in said:
        raise PolicyError(f"Kind: is missing; known: {', '.join(KINDS)}")
    kind = find_kind(said["kind"])
    kept = {key: value for key, value in document.items() if not (isinstance(key, str) and fold(key) in _MARKS)}
    spec, faults = fit(kept, kind.shape)
    faults += list(number_faults(spec)) or capped(unrelated(kind.faults(spec), faults), len(faults))
    if faults:
        title = _title(kind, said.get("name"))
        raise PolicyError(*(f"{title}: {fault}" for fault in faults))
    return Entry(spec, _index(said.get("modifyindex")))


def unacted(entries: Iterable[Entry]) -> list[str]:
    """Which of them are kept and not yet acted on: a sentence for all of which the same is true."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        found.setdefault(unacted_on(entry.spec), []).append(str(entry.key))
    return [f"{says}: {', '.join(keys)}" for says, keys in found.items() if says]


def _rank(destination: str) -> Callable[[dict[str, Any]], tuple[object, ...]]:
    """The order in which the sources of a destination are evaluated."""

    def rank(source: dict[str, Any]) -> tuple[object, ...]:
        precedence = Intention(source["Name"], destination, "deny").precedence
        return -precedence, source["Name"], source.get("Peer", ""), source.get("SamenessGroup", "")

    return rank


def _bare_source(source: dict[str, Any]) -> dict[str, Any]:
    """A source without what the catalog adds."""
    return {key: value for key, value in source.items() if key not in ("Precedence", "Type") and not key.startswith("Legacy")}


def _without_empty(value: Any, key: str = "") -> Any:
    """Without what Consul adds: objects that say nothing (but a subset is one), the only namespace and partition."""
    if isinstance(value, list):
        return [_without_empty(each) for each in value]
    if not isinstance(value, dict) or key in _UNREAD:
        return value
    bare = {name: _without_empty(each, name) for name, each in value.items()}
    kept = {name: each for name, each in bare.items() if each != {} or key in _NAMED}
    return kept if key in _NAMED else {name: each for name, each in kept.items() if name not in ("Namespace", "Partition")}


def _title(kind: Kind, name: object) -> str:
    shown = "".join(char if char.isprintable() else "?" for char in name[:_NAME_CHARS]) if isinstance(name, str) else ""
    return f"{kind.name} {shown or kind.only_name}".rstrip()


def _index(said: object) -> int | None:
    return said if isinstance(said, int) and not isinstance(said, bool) and said >= 0 else None
