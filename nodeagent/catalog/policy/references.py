"""A set of entries against itself and the catalog: what leads in a circle, what speaks another protocol, what is not there."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from nodeagent import limits
from nodeagent.catalog.policy.entries import Key, Spec
from nodeagent.catalog.policy.faults import below
from nodeagent.model.intention import ANY
from nodeagent.model.policy.defaults import MeshEntry, ProxyDefaults, ServiceDefaults
from nodeagent.model.policy.intentions import JwtNeed, ServiceIntentions
from nodeagent.model.policy.own import Mirror
from nodeagent.model.policy.resolving import ServiceResolver
from nodeagent.model.policy.routing import ServiceRouter, ServiceSplitter
from nodeagent.tables import suggest

Entries = Mapping[Key, Spec]
_HTTP = ("http", "http2", "grpc")


class Reference(NamedTuple):
    """One entry's word about another service."""

    path: str
    service: str
    subset: str = ""


def references_of(spec: Spec) -> Iterator[Reference]:
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


def reference_faults(entries: Entries, *, is_all: bool) -> list[str]:
    """What Consul refuses in a set of entries. is_all: what is not among them is not there."""
    found: list[str] = []
    for key, spec in entries.items():
        found += [f"{key}: {fault}" for fault in (*_circles(entries, spec), *_protocol_faults(entries, spec, is_all=is_all))]
        if isinstance(spec, ServiceDefaults | ProxyDefaults) and spec.mutual_tls_mode == "permissive":
            mesh = entries.get(Key("mesh", "mesh"))
            if (is_all or mesh) and not (isinstance(mesh, MeshEntry) and mesh.allow_enabling_permissive_mutual_tls):
                found.append(f"{key}: MutualTLSMode: permissive needs AllowEnablingPermissiveMutualTLS in the entry mesh")
    return found


def reference_doubts(entries: Entries, services: Collection[str], of: Collection[Key] | None = None) -> dict[Key, list[str]]:
    """What entries name and nobody knows.

    services: those of the catalog. of: which entries are asked about, with hints at typing errors; None: all, without.
    """
    named = {key.name for key, spec in entries.items() if isinstance(spec, ServiceDefaults | ServiceResolver | ServiceRouter | ServiceSplitter)}
    known = _Known({*services, *named}, limits.POLICY_HINTS if of is not None else 0)
    keys = entries if of is None else of
    return {key: [f"{key}: {doubt}" for doubt in _doubts_of(entries, entries[key], known)] for key in keys}


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
    """What a service speaks; empty where the set does not say and is not all."""
    own, common = entries.get(Key("service-defaults", service)), entries.get(Key("proxy-defaults", "global"))
    said: str = own.protocol if isinstance(own, ServiceDefaults) else ""
    said = said or (common.protocol if isinstance(common, ProxyDefaults) else "")
    is_known = is_all or (own is not None and common is not None)
    return said or ("tcp" if is_known else "")


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


def _circles(entries: Entries, spec: Spec) -> Iterator[str]:
    if isinstance(spec, ServiceSplitter):
        way = _way_back(entries, spec)
        if way:
            yield f"Splits: they lead in a circle: {' -> '.join(way)}"
    elif isinstance(spec, ServiceResolver):
        for reference in _redirect_of(spec):
            way = _redirects(entries, reference.service, [spec.name])
            if reference.service != spec.name and way[-1] == spec.name:
                yield f"Redirect: leads in a circle: {' -> '.join(way)}"
        for reference in _stand_ins_of(spec):
            way = _redirects(entries, reference.service, [spec.name])
            if reference.service != spec.name and way[-1] == spec.name:
                yield f"{reference.path}: leads in a circle, so nobody stands in: {' -> '.join(way)}"


def _way_back(entries: Entries, start: ServiceSplitter) -> list[str]:
    """The shortest way by which splits lead from a service to itself again; empty where none does."""
    ways: dict[str, list[str]] = {start.name: [start.name]}
    queue: list[Spec] = [start]
    for spec in queue:
        for name in (each.service for each in references_of(spec) if each.service != spec.name):
            if name == start.name:
                return [*ways[spec.name], name]
            following = entries.get(Key("service-splitter", name))
            if name not in ways and following is not None:
                ways[name] = [*ways[spec.name], name]
                queue.append(following)
    return []


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


def _needs_http(spec: Spec) -> str:
    """The part that speaks of requests, which only some protocols have; else nothing."""
    if isinstance(spec, ServiceRouter):
        return "Routes"
    if isinstance(spec, ServiceSplitter):
        return "Splits"
    if isinstance(spec, ServiceIntentions):
        return next((f"Sources[{n}].Permissions" for n, each in enumerate(spec.sources) if each.permissions), "")
    return "Copies" if isinstance(spec, Mirror) else ""


# --- what nobody knows ---------------------------------------------------------------------------------------------


class _Known:
    """The names that somebody knows; hints at those that were probably meant, as many as are worth their time."""

    def __init__(self, names: Collection[str], hints: int) -> None:
        self._names, self._left = names, hints
        self._hints: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def hint(self, name: str) -> str:
        """The end of a message about an unknown name."""
        if name not in self._hints and self._left:
            self._left -= 1
            self._hints[name] = suggest(name, self._names)
        return self._hints.get(name, "")


def _doubts_of(entries: Entries, spec: Spec, known: _Known) -> Iterator[str]:
    for reference in references_of(spec):
        if reference.service not in known:
            yield f"{reference.path}: nobody knows a service {reference.service}{known.hint(reference.service)}"
        elif reference.subset and not _has_subset(entries, reference):
            yield f"{reference.path}: the service-resolver of {reference.service} has no subset {reference.subset}"
    if isinstance(spec, ServiceIntentions):
        yield from _intention_doubts(entries, spec, known)


def _has_subset(entries: Entries, reference: Reference) -> bool:
    resolver = entries.get(Key("service-resolver", reference.service))
    return isinstance(resolver, ServiceResolver) and reference.subset in resolver.subsets


def _intention_doubts(entries: Entries, spec: ServiceIntentions, known: _Known) -> Iterator[str]:
    if spec.name != ANY and spec.name not in known:
        yield f"nobody knows a service {spec.name}{known.hint(spec.name)}"
    for number, source in enumerate(spec.sources):
        near = known.hint(source.name) if source.name != ANY and source.name not in known and not source.peer else ""
        if near:  # who only calls is in no catalog, and that is fine, unless the name looks like a typing error
            yield f"Sources[{number}]: nobody knows a service {source.name}{near}"
        needs = [(f"Sources[{number}].Permissions[{n}].JWT", each.jwt) for n, each in enumerate(source.permissions)]
        for path, need in needs:
            yield from _jwt_doubts(entries, need, path)
    yield from _jwt_doubts(entries, spec.jwt, "JWT")


def _jwt_doubts(entries: Entries, need: JwtNeed | None, path: str) -> Iterator[str]:
    for number, provider in enumerate(need.providers if need else ()):
        if Key("jwt-provider", provider.name) not in entries:
            yield f"{path}.Providers[{number}]: there is no jwt-provider {provider.name}"
