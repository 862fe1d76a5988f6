"""What the catalog's entries say of one service's requests, put together; and where they may lead."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from nodeagent.catalog.diff import differing
from nodeagent.catalog.state import CatalogState
from nodeagent.catalog.subsets import subset_faults
from nodeagent.config import Config
from nodeagent.model.intention import ANY
from nodeagent.model.policy.http import RequestMatch
from nodeagent.model.policy.resolving import ServiceResolver
from nodeagent.model.policy.routing import Route, ServiceRouter, ServiceSplitter
from nodeagent.model.traffic import Traffic

ROUTING = ("service-router", "service-splitter", "service-resolver")
"""Kinds that say where requests go. Where one of them is not understood, requests that it is about are refused."""

_NOTHING = Traffic()

Ways = Mapping[str, tuple[str, ...]]
"""By service those to which its entries lead, one step."""


def traffic_of(name: str, state: CatalogState, config: Config) -> Traffic | None:
    """All that is said of a service's requests; None: nothing."""
    table = config.service.get(name)
    router = state.routers.get(name)
    made = Traffic(
        router=_with_capitals(router) if router else None,
        splitter=state.splitters.get(name),
        resolver=state.resolvers.get(name),
        retry_budget=state.budgets.get(name) or state.budgets.get(ANY),
        unreadable=tuple(kind for kind in ROUTING if f"{kind}/{name}" in state.unread) if state.unread else (),
        balance_dialled=table is not None and table.balance_dialled,
    )
    return made if made != _NOTHING else None


def names_in(state: CatalogState) -> set[str]:
    """The services of which an entry about requests speaks; also `*`."""
    unread = (name for kind, _, name in (key.partition("/") for key in state.unread) if kind != "mesh")
    return {*state.routers, *state.splitters, *state.resolvers, *state.upstreams, *state.budgets, *unread}


def entry_notes(state: CatalogState) -> Iterator[str]:
    """What of the entries is left out, one sentence each."""
    for key, why in sorted(state.unread.items()):
        kind, _, name = key.partition("/")
        refused = f", and requests to {name} that it is about are refused" if kind in ROUTING else ", and left out"
        yield f"{kind} {name} is not understood{refused}: {why}"
    for name, resolver in sorted(state.resolvers.items()):
        for subset, why in subset_faults(resolver).items() if resolver.subsets else ():
            yield f"service-resolver {name}: nobody is in the subset {subset}: {why}"


def unlike_entries(before: CatalogState, state: CatalogState) -> set[str]:
    """The services of which entries about requests say something else than before; `*`: of any."""
    pairs = (
        (before.routers, state.routers), (before.splitters, state.splitters), (before.resolvers, state.resolvers),
        (before.upstreams, state.upstreams), (before.budgets, state.budgets),
    )  # fmt: skip
    found = {name for was, now in pairs for name in differing(was, now)}
    return found | {key.partition("/")[2] for key in differing(before.unread, state.unread)}


def ways_of(
    routers: Mapping[str, ServiceRouter], splitters: Mapping[str, ServiceSplitter], resolvers: Mapping[str, ServiceResolver]
) -> Ways:  # fmt: skip
    """Where each service's entries lead."""
    found: dict[str, dict[str, None]] = {}
    for name, router in routers.items():
        found.setdefault(name, {}).update((route.destination.service, None) for route in router.routes if route.destination)
    for name, splitter in splitters.items():
        found.setdefault(name, {}).update((split.service, None) for split in splitter.splits)
    for name, resolver in resolvers.items():
        found.setdefault(name, {}).update(dict.fromkeys(_stand_ins(resolver)))
    others = ((name, tuple(to for to in named if to and to != name)) for name, named in found.items())
    return {name: named for name, named in others if named}


def led_to(ways: Ways, names: Iterable[str]) -> frozenset[str]:
    """The services to which entries lead from these, over any number of steps, without these themselves."""
    start = frozenset(names)
    found, queue = set(start), [name for name in start if name in ways]
    for name in queue:
        for to in ways.get(name, ()):
            if to not in found:
                found.add(to)
                queue.append(to)
    return frozenset(found - start)


def _stand_ins(resolver: ServiceResolver) -> Iterator[str]:
    if resolver.redirect:
        yield resolver.redirect.service
    for failover in resolver.failover.values():
        yield failover.service
        yield from (target.service for target in failover.targets)


def _with_capitals(router: ServiceRouter) -> ServiceRouter:
    """With methods as requests have them: Consul takes them in any case."""
    if not any(route.match and route.match.http and route.match.http.methods for route in router.routes):
        return router
    return msgspec.structs.replace(router, routes=tuple(map(_route, router.routes)))


def _route(route: Route) -> Route:
    http = route.match.http if route.match else None
    if http is None or not http.methods:
        return route
    upper = msgspec.structs.replace(http, methods=tuple(method.upper() for method in http.methods))
    return msgspec.structs.replace(route, match=RequestMatch(http=upper))
