"""What entries name and nobody knows: services, subsets, providers of tokens; with the name that was probably meant."""

from collections import Counter
from collections.abc import Collection, Iterator

from nodeagent import limits
from nodeagent.catalog.policy.entries import Key, Spec
from nodeagent.catalog.policy.references import Entries, Reference, references_of
from nodeagent.model.intention import ANY
from nodeagent.model.policy.intentions import JwtNeed, ServiceIntentions
from nodeagent.model.policy.own import Fault, Mirror, RateLimit, RetryBudget
from nodeagent.model.policy.resolving import ServiceResolver
from nodeagent.tables import suggest

_OF_SERVICES = ("service-defaults", "service-resolver", "service-router", "service-splitter")
_WELL_KNOWN = 2


def reference_doubts(entries: Entries, services: Collection[str], of: Collection[Key] | None = None) -> dict[Key, list[str]]:
    """What entries name and nobody knows.

    services: those of the catalog. of: which entries are asked about, with hints at typing errors; None: all, without.
    """
    keys = entries if of is None else of
    known = _Known(entries, services, keys, limits.POLICY_HINTS if of is not None else 0)
    return {key: [f"{key}: {doubt}" for doubt in _doubts_of(entries, entries[key], known)] for key in keys}


class _Known:
    """The names that somebody knows; hints at those that were probably meant, as many as are worth their time."""

    def __init__(self, entries: Entries, services: Collection[str], asked: Collection[Key], hints: int) -> None:
        self._services = set(services)
        self._names = self._services | {key.name for key, spec in entries.items() if key.kind in _OF_SERVICES and _leads_on(spec)}
        self._callers = Counter[str]()
        """How good the names of callers are: who is named by entries that nobody asks about, or by two, is well known."""
        for key, spec in entries.items():
            for name in {name for _, name in _sources_of(spec)}:
                self._callers[name] += 1 if key in asked else _WELL_KNOWN
        self._well_known = {caller for caller, count in self._callers.items() if count >= _WELL_KNOWN}  # once: there may be 100,000
        self._left = hints
        self._hints: dict[tuple[str, str], str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def hint(self, name: str, spec: Spec) -> str:
        """The end of a message about a name in an entry that nobody knows; what the entry itself is called was not meant."""
        return self._hint(name, spec, set())

    def hint_at_caller(self, name: str, spec: Spec) -> str:
        """The same of who only calls, and is known by what other entries say of him: empty, where the name is as good as any."""
        if name in self._names or name in self._well_known:
            return ""
        return self._hint(name, spec, self._well_known)

    def _hint(self, name: str, spec: Spec, more: set[str]) -> str:
        asked = name, spec.name
        if asked not in self._hints and self._left:
            self._left -= 1
            names = self._names | more
            self._hints[asked] = suggest(name, names if spec.name in self._services else names - {spec.name})
        return self._hints.get(asked, "")


def _leads_on(spec: Spec | None) -> bool:
    """Whether an entry makes a service of its name, although it runs nowhere: a resolver that only sorts instances does not."""
    return not isinstance(spec, ServiceResolver) or bool(spec.redirect or spec.failover)


def _sources_of(spec: Spec | None) -> Iterator[tuple[str, str]]:
    """The callers that an entry names, each with its place."""
    if isinstance(spec, ServiceIntentions):
        yield from ((f"Sources[{n}]", each.name) for n, each in enumerate(spec.sources) if each.name != ANY and not each.peer)
    elif isinstance(spec, Fault):
        yield from ((f"Injections[{n}].Sources[{m}]", name) for n, each in enumerate(spec.injections) for m, name in enumerate(each.sources) if name != ANY)
    elif isinstance(spec, RateLimit):
        yield from ((f"Overrides[{n}].Sources[{m}]", name) for n, each in enumerate(spec.overrides) for m, name in enumerate(each.sources))


def _doubts_of(entries: Entries, spec: Spec | None, known: _Known) -> Iterator[str]:
    if spec is None:
        return
    for reference in references_of(spec):
        if reference.service not in known:
            yield f"{reference.path}: nobody knows a service {reference.service}{known.hint(reference.service, spec)}"
        elif reference.subset and not _has_subset(entries, reference):
            yield f"{reference.path}: the service-resolver of {reference.service} has no subset {reference.subset}"
    if isinstance(spec, _ABOUT_ONE) and spec.name != ANY and spec.name not in known:
        yield f"nobody knows a service {spec.name}{known.hint(spec.name, spec)}"
    for path, name in _sources_of(spec):
        if near := known.hint_at_caller(name, spec):  # who only calls is in no catalog, and that is fine, unless it looks like a typing error
            yield f"{path}: nobody knows a service {name}{near}"
    if isinstance(spec, ServiceIntentions):
        yield from _providers_of(entries, spec)


_ABOUT_ONE = (ServiceIntentions, ServiceResolver, Fault, Mirror, RateLimit, RetryBudget)
"""Entries that mean nothing without the service that they are called like."""


def _has_subset(entries: Entries, reference: Reference) -> bool:
    key = Key("service-resolver", reference.service)
    resolver = entries.get(key)
    if resolver is None:
        return key in entries  # not understood: it may well have it
    return isinstance(resolver, ServiceResolver) and reference.subset in resolver.subsets


def _providers_of(entries: Entries, spec: ServiceIntentions) -> Iterator[str]:
    for number, source in enumerate(spec.sources):
        for n, each in enumerate(source.permissions):
            yield from _jwt_doubts(entries, each.jwt, f"Sources[{number}].Permissions[{n}].JWT")
    yield from _jwt_doubts(entries, spec.jwt, "JWT")


def _jwt_doubts(entries: Entries, need: JwtNeed | None, path: str) -> Iterator[str]:
    for number, provider in enumerate(need.providers if need else ()):
        if Key("jwt-provider", provider.name) not in entries:
            yield f"{path}.Providers[{number}]: there is no jwt-provider {provider.name}"
