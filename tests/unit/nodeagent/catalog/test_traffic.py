"""What entries say of one service's requests."""

from msgspec.structs import replace

from nodeagent.catalog.compiler import compile_snapshot, notes_of
from nodeagent.catalog.state import CatalogState
from nodeagent.catalog.traffic import led_to, names_in, traffic_of, unlike_entries, ways_of
from nodeagent.model.policy.http import HttpMatch, RequestMatch
from nodeagent.model.policy.own import RetryBudget
from nodeagent.model.policy.resolving import Failover, FailoverTarget, Redirect, ServiceResolver, Subset
from nodeagent.model.policy.routing import Route, RouteDestination, ServiceRouter, ServiceSplitter, Split
from nodeagent.model.traffic import Traffic
from tests.support.mesh import config, state

ROUTER = ServiceRouter(kind="service-router", name="web", routes=(Route(destination=RouteDestination(service="api")),))
SPLITTER = ServiceSplitter(kind="service-splitter", name="web", splits=(Split(weight=90), Split(weight=10, service="canary")))
RESOLVER = ServiceResolver(
    kind="service-resolver", name="api", subsets={"v1": Subset(filter="Service.Port == 80"), "odd": Subset(filter="Checks.Status == x")},
    failover={"*": Failover(targets=(FailoverTarget(service="standby"), FailoverTarget(datacenter="dc2")))},
)  # fmt: skip
ALL = {"routers": {"web": ROUTER}, "splitters": {"web": SPLITTER}, "resolvers": {"api": RESOLVER}}


def said(**entries: object) -> CatalogState:
    return replace(state(), **entries)


def test_a_service_has_all_that_is_said_of_its_requests() -> None:
    """And none that nobody spoke of has anything."""
    known = said(**ALL)
    assert Traffic(router=ROUTER, splitter=SPLITTER) == traffic_of("web", known, config())
    assert Traffic(resolver=RESOLVER) == traffic_of("api", known, config())
    assert traffic_of("shop", known, config()) is None
    snapshot = compile_snapshot(known, config(), trust_domain="td", generation=1)
    assert (True, False, True) == tuple(snapshot.services[name].is_routed for name in ("web", "shop", "api"))


def test_a_budget_for_all_is_of_each_that_has_none() -> None:
    """It routes nothing."""
    own, other = RetryBudget(kind="retry-budget", name="web"), RetryBudget(kind="retry-budget", name="*", ratio=0.5)
    known = said(budgets={"web": own, "*": other})
    assert [own, other] == [found.retry_budget for name in ("web", "shop") if (found := traffic_of(name, known, config()))]
    assert not compile_snapshot(known, config(), trust_domain="td", generation=1).services["shop"].is_routed


def test_what_is_not_understood_is_known_and_told() -> None:
    """Where requests go by it they are refused; of anything else the agent's own holds."""
    known = said(unread={"service-router/web": "Unheard: no such key", "retry-budget/shop": "odd", "mesh/mesh": "odder"})
    assert Traffic(unreadable=("service-router",)) == traffic_of("web", known, config())
    assert traffic_of("shop", known, config()) is None
    assert [
        "mesh mesh is not understood, and left out: odder",
        "retry-budget shop is not understood, and left out: odd",
        "service-router web is not understood, and requests to web that it is about are refused: Unheard: no such key",
    ] == [*notes_of(known)]
    assert {"web", "shop"} == names_in(known)


def test_a_subset_that_cannot_be_asked_for_is_told() -> None:
    assert ["service-resolver api: nobody is in the subset odd: Checks.Status: no such field; here is Node, Service"] == [*notes_of(said(**ALL))]


def test_a_host_may_have_what_was_dialled_balanced() -> None:
    """By its own configuration."""
    assert Traffic(balance_dialled=True) == traffic_of("web", state(), config("[service.web]\nbalance_dialled = true\n"))


def test_methods_are_in_capitals_as_in_requests() -> None:
    """Consul takes them in any case."""
    route = Route(match=RequestMatch(http=HttpMatch(methods=("get", "POST"))))
    found = traffic_of("web", said(routers={"web": replace(ROUTER, routes=(*ROUTER.routes, route))}), config())
    assert found is not None
    assert found.router is not None
    assert (ROUTER.routes[0], ("GET", "POST")) == (found.router.routes[0], found.router.routes[1].match.http.methods)


def test_what_changed_is_told_by_service() -> None:
    """Whichever kind says it."""
    known = said(**ALL)
    assert set() == unlike_entries(known, replace(known, hosts=()))
    assert {"web"} == unlike_entries(known, replace(known, splitters={}))
    assert {"api", "db"} == unlike_entries(known, replace(known, resolvers={}, unread={"service-router/db": "why"}))
    assert {"*"} == unlike_entries(known, replace(known, budgets={"*": RetryBudget(kind="retry-budget", name="*")}))


def test_where_requests_lead_is_followed_over_any_number_of_steps() -> None:
    """Routes, splits, redirects and who stands in."""
    moved = ServiceResolver(kind="service-resolver", name="canary", redirect=Redirect(service="web"))
    ways = ways_of({"web": ROUTER}, {"web": SPLITTER}, {"api": RESOLVER, "canary": moved})
    assert {"web": ("api", "canary"), "api": ("standby",), "canary": ("web",)} == ways
    assert {"api", "canary", "standby"} == led_to(ways, {"web"})
    assert {"web", "api", "standby"} == led_to(ways, {"canary", "shop"})
    assert frozenset() == led_to(ways, {"shop"})
