"""service-router and service-splitter: rewrites that have a prefix to rewrite, shares that are 100 together."""

from collections.abc import Iterator

from nodeagent.catalog.policy.faults import Fault, below
from nodeagent.catalog.policy.requests import match_faults
from nodeagent.model.policy.http import HttpMatch
from nodeagent.model.policy.routing import Route, ServiceRouter, ServiceSplitter

_WHOLE = 10_000  # shares are counted in hundredths of a percent, as Consul does


def router_faults(entry: ServiceRouter) -> Iterator[Fault]:
    """What is wrong with a service-router entry, beyond its shape."""
    for number, route in enumerate(entry.routes):
        yield from _route_faults(route, below("Routes", number))


def router_doubts(entry: ServiceRouter) -> Iterator[Fault]:
    """What can be kept and is hardly meant."""
    for number, route in enumerate(entry.routes[:-1]):
        if matches_all(route):
            rest = len(entry.routes) - number - 1
            yield Fault(below("Routes", number), f"takes every request: the {rest} after it {'is' if rest == 1 else 'are'} never reached")
            return


def matches_all(route: Route) -> bool:
    """Whether every request takes the route."""
    http = route.match.http if route.match else None
    return http is None or http in (HttpMatch(), HttpMatch(path_prefix="/"))


def splitter_faults(entry: ServiceSplitter) -> Iterator[Fault]:
    """What is wrong with a service-splitter entry, beyond its shape."""
    if not entry.splits:
        yield Fault("Splits", "give at least one; without any, delete the entry")
        return
    shares = [round(split.weight * 100) for split in entry.splits]
    for number, (share, split) in enumerate(zip(shares, entry.splits, strict=True)):
        if split.weight and not share:
            yield Fault(below(below("Splits", number), "Weight"), f"{split.weight:g} is less than 0.01")
    if sum(shares) != _WHOLE:
        yield Fault("Splits", f"the weights sum to {sum(shares) / 100:g}, not to 100; hundredths count, so three equal ones are 33.33, 33.33 and 33.34")
    seen: set[tuple[str, str]] = set()
    for number, split in enumerate(entry.splits):
        target = (split.service or entry.name, split.service_subset)
        if target in seen:
            yield Fault(below("Splits", number), f"{' subset '.join(filter(None, target))} stands twice")
        seen.add(target)


def _route_faults(route: Route, path: str) -> Iterator[Fault]:
    yield from match_faults(route.match, below(path, "Match"))
    http, to = route.match.http if route.match else None, route.destination
    if to is not None and to.prefix_rewrite and not (http and (http.path_exact or http.path_prefix)):
        yield Fault(below(below(path, "Destination"), "PrefixRewrite"), "needs a PathExact or PathPrefix to rewrite")
    if to is not None and to.prefix_rewrite and not to.prefix_rewrite.startswith("/"):
        yield Fault(below(below(path, "Destination"), "PrefixRewrite"), f"{to.prefix_rewrite[:80]!r} does not begin with /")
