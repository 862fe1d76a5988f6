"""A set of entries against itself: what leads in a circle, what speaks another protocol."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from nodeagent import limits
from nodeagent.catalog.policy.entries import Key, Spec
from nodeagent.catalog.policy.faults import below
from nodeagent.model.intention import ANY
from nodeagent.model.policy.defaults import MeshEntry, ProxyDefaults, ServiceDefaults
from nodeagent.model.policy.intentions import ServiceIntentions
from nodeagent.model.policy.own import Mirror
from nodeagent.model.policy.resolving import ServiceResolver
from nodeagent.model.policy.routing import ServiceRouter, ServiceSplitter

Entries = Mapping[Key, Spec | None]
"""None: there is one that this version does not understand, so what it says is not known."""
_HTTP = ("http", "http2", "grpc")


class Reference(NamedTuple):
    """One entry's word about another service."""

    path: str
    service: str
    subset: str = ""


def references_of(spec: Spec | None) -> Iterator[Reference]:
    """The services that traffic of an entry's own may be led to."""
    if isinstance(spec, ServiceRouter):
        for number, route in enumerate(spec.routes):
            if route.destination is not None:
                to = route.destination
                yield Reference(f"Routes[{number}].Destination", to.service or spec.name, to.service_subset)
    elif isinstance(spec, ServiceSplitter):
        for number, split in enumerate(spec.splits):
            yield Reference(f"Splits[{number}]", split.service or spec.name, split.service_subset)
    elif isinstance(spec, ServiceResolver):
        yield from _redirect_of(spec)
        yield from _stand_ins_of(spec)
    elif isinstance(spec, Mirror):
        for number, copy in enumerate(spec.copies):
            yield Reference(f"Copies[{number}]", copy.service, copy.service_subset)


def reference_faults(entries: Entries, *, is_all: bool, of: Collection[Key] | None = None) -> list[str]:
    """What Consul refuses in a set of entries.

    is_all: what is not among them is not there. of: which entries are asked about, so that only what these lead to is
    looked at; None: all.
    """
    splits = _Splits(entries) if of is not None else _Splits.of_all(entries)
    found: list[str] = []
    for key in entries if of is None else of:
        spec = entries.get(key)
        if spec is not None:
            faults = *_circles(entries, spec, splits), *_protocol_faults(entries, spec, is_all=is_all), *_tls_faults(entries, spec, is_all=is_all)
            found += [f"{key}: {fault}" for fault in faults]
    return found


def redirect_chain(entries: Entries, service: str) -> list[str]:
    """A service and those to whom redirects lead from it, as far as they are followed."""
    return list(dict.fromkeys(_redirects(entries, service, [])))


def in_order(keys: Collection[Key], entries: Entries, kinds: Collection[str]) -> list[Key]:
    """The keys so that what others refer to is written first. kinds: as they are written."""
    ranks, found = {kind: number for number, kind in enumerate(kinds)}, dict[Key, None]()
    for key in sorted(keys, key=lambda each: (ranks[each.kind], each.name)):
        _visit(key, entries, keys, found, {key})
    return list(found)


def _visit(key: Key, entries: Entries, keys: Collection[Key], found: dict[Key, None], on_way: set[Key]) -> None:
    """Puts what `key` refers to, of its own kind, and then itself behind `found`."""
    if key in found:
        return
    for reference in references_of(entries[key]) if key in entries and len(on_way) < limits.POLICY_HOPS else ():
        other = Key(key.kind, reference.service)
        if other in keys and other not in on_way:
            _visit(other, entries, keys, found, {*on_way, other})
    found[key] = None


def protocol_of(entries: Entries, service: str, *, is_all: bool = True) -> str:
    """What a service speaks; empty where the set does not say and is not all, or is not understood."""
    is_known = True
    for key in (Key("service-defaults", service), Key("proxy-defaults", "global")):
        spec = entries.get(key)
        if isinstance(spec, ServiceDefaults | ProxyDefaults):
            if spec.protocol:
                return spec.protocol
        elif key in entries:
            return ""  # not understood
        else:
            is_known = is_known and is_all
    return "tcp" if is_known else ""


def _redirect_of(spec: ServiceResolver) -> Iterator[Reference]:
    to = spec.redirect
    if to is not None and not (to.datacenter or to.peer or to.sameness_group):
        yield Reference("Redirect", to.service or spec.name, to.service_subset)


def _stand_ins_of(spec: ServiceResolver) -> Iterator[Reference]:
    for subset, failover in spec.failover.items():
        path = below("Failover", subset)
        if (failover.service or failover.service_subset) and not failover.datacenters:
            yield Reference(path, failover.service or spec.name, failover.service_subset)
        for number, target in enumerate(failover.targets):
            if not (target.datacenter or target.peer):
                yield Reference(f"{path}.Targets[{number}]", target.service or spec.name, target.service_subset)


# --- circles -------------------------------------------------------------------------------------------------------


class _Splits:
    """Which splitter leads to which, each looked at once. Owned by one check."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._to: dict[str, tuple[str, ...]] = {}

    @classmethod
    def of_all(cls, entries: Entries) -> "_Splits":
        """Of a whole set, without those that are on no circle: mostly that is all of them."""
        made = cls(entries)
        names = {spec.name for spec in entries.values() if isinstance(spec, ServiceSplitter)}
        to = {name: set(made.led_to(name)) for name in names}
        on_circles = _untrimmed(to) & _untrimmed(_reversed(to))
        made._to = {name: tuple(each for each in made.led_to(name) if each in on_circles) if name in on_circles else () for name in names}
        return made

    def led_to(self, name: str) -> tuple[str, ...]:
        """Where the splitter of a service leads. A split to itself goes to its own instances."""
        if name not in self._to:
            spec = self._entries.get(Key("service-splitter", name))
            named = dict.fromkeys(each.service for each in references_of(spec) if each.service != name)
            self._to[name] = tuple(named)
        return self._to[name]

    def way_back(self, start: str) -> list[str]:
        """The shortest way by which splits lead from a service to itself again; empty where none does."""
        before: dict[str, str] = {}
        queue = [start]
        for name in queue:
            for following in self.led_to(name):
                if following == start:
                    return _way_to(name, before, start)
                if following not in before:
                    before[following] = name
                    queue.append(following)
        return []


def _way_to(name: str, before: Mapping[str, str], start: str) -> list[str]:
    """From `start` by those who were before each other to `name`, and to `start` again."""
    way = [start]
    while name != start:
        way.append(name)
        name = before[name]
    return [*way, start][::-1]


def _untrimmed(to: Mapping[str, Collection[str]]) -> set[str]:
    """Who leads to a circle, or is on one: who leads nowhere goes, until nobody does."""
    left = {name: sum(each in to for each in following) for name, following in to.items()}
    back = _reversed(to)
    ends = [name for name, count in left.items() if not count]
    for end in ends:
        for name in back[end]:
            left[name] -= 1
            if not left[name]:
                ends.append(name)
    return set(to).difference(ends)


def _reversed(to: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Who is led to by whom, among those who lead."""
    back: dict[str, set[str]] = {name: set() for name in to}
    for name, following in to.items():
        for each in following:
            if each in back:
                back[each].add(name)
    return back


def _circles(entries: Entries, spec: Spec, splits: _Splits) -> Iterator[str]:
    if isinstance(spec, ServiceSplitter):
        way = splits.way_back(spec.name)
        if way:
            yield f"Splits: they lead in a circle: {_shown(way)}"
    elif isinstance(spec, ServiceResolver):
        for reference in _redirect_of(spec):
            yield from _chain_faults(entries, spec, reference, "leads in a circle")
        for reference in _stand_ins_of(spec):
            yield from _chain_faults(entries, spec, reference, "leads in a circle, so nobody stands in")


def _chain_faults(entries: Entries, spec: ServiceResolver, reference: Reference, circle: str) -> Iterator[str]:
    if reference.service == spec.name:
        return
    way = _redirects(entries, reference.service, [spec.name])
    if way[-1] == spec.name:
        yield f"{reference.path}: {circle}: {_shown(way)}"
    elif len(way) > limits.POLICY_HOPS and way[-1] not in way[:-1]:  # a circle may be behind
        yield f"{reference.path}: leads on over {limits.POLICY_HOPS} redirects and further: {_shown(way)}"


def _shown(way: Sequence[str]) -> str:
    ends = limits.POLICY_WAY // 2
    return " -> ".join(way if len(way) <= limits.POLICY_WAY else [*way[:ends], f"{len(way) - 2 * ends} more", *way[-ends:]])


def _redirects(entries: Entries, service: str, way: list[str]) -> list[str]:
    """The way on which redirects lead from `service`, as far as it is not a circle of others."""
    while service not in way and len(way) < limits.POLICY_HOPS:
        way = [*way, service]
        spec = entries.get(Key("service-resolver", service))
        to = next(iter(_redirect_of(spec)), None) if isinstance(spec, ServiceResolver) else None
        if to is None or to.service == service:
            return way
        service = to.service
    return [*way, service]


# --- protocols -----------------------------------------------------------------------------------------------------


def _protocol_faults(entries: Entries, spec: Spec, *, is_all: bool) -> Iterator[str]:
    if isinstance(spec, ServiceDefaults | ProxyDefaults | MeshEntry):
        return
    own = protocol_of(entries, spec.name, is_all=is_all) if spec.name != ANY else ""
    what = _needs_http(spec)
    if own and what and own not in _HTTP:
        yield f"{what}: the protocol of {spec.name} is {own}, and this needs {', '.join(_HTTP)}: say so in its service-defaults"
    if isinstance(spec, ServiceRouter | ServiceSplitter | ServiceResolver):
        for reference in references_of(spec):
            other = protocol_of(entries, reference.service, is_all=is_all)
            if own and other and own != other:
                yield f"{reference.path}: {reference.service} speaks {other}, and {spec.name} speaks {own}"


def _tls_faults(entries: Entries, spec: Spec, *, is_all: bool) -> Iterator[str]:
    if not isinstance(spec, ServiceDefaults | ProxyDefaults) or spec.mutual_tls_mode != "permissive":
        return
    key = Key("mesh", "mesh")
    mesh = entries.get(key)
    if mesh is None and (not is_all or key in entries):
        return  # nobody knows what it says
    if not (isinstance(mesh, MeshEntry) and mesh.allow_enabling_permissive_mutual_tls):
        yield "MutualTLSMode: permissive needs AllowEnablingPermissiveMutualTLS in the entry mesh"


def _needs_http(spec: Spec) -> str:
    """The part that speaks of requests, which only some protocols have; else nothing."""
    if isinstance(spec, ServiceRouter):
        return "Routes"
    if isinstance(spec, ServiceSplitter):
        return "Splits"
    if isinstance(spec, ServiceIntentions):
        return next((f"Sources[{n}].Permissions" for n, each in enumerate(spec.sources) if each.permissions), "")
    return "Copies" if isinstance(spec, Mirror) else ""
