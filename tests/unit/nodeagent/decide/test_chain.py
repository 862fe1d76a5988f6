"""Where a request goes."""

from collections import Counter

import msgspec
import pytest

from nodeagent import limits
from nodeagent.decide.chain import Leg, Target, chain_of
from nodeagent.decide.headers import edited
from nodeagent.errors import NoRoute
from nodeagent.model.policy.http import HeaderMatch, HttpMatch, RequestMatch
from nodeagent.model.policy.resolving import Failover, FailoverTarget, LoadBalancer, Redirect, Subset
from nodeagent.model.policy.routing import Route
from nodeagent.model.policy.values import Duration, HeaderEdits
from nodeagent.model.traffic import Traffic
from tests.support.requests import view
from tests.support.routes import Routed, resolver, router, split, splitter, to

CANARY = RequestMatch(http=HttpMatch(header=(HeaderMatch(name="x-canary", exact="1"),)))
SUBSETS = {"v1": Subset(filter="Service.Meta.version == v1"), "v2": Subset()}


def together(*said: Traffic) -> Traffic:
    """Entries of one service."""
    fields = {name: value for each in said for name in ("router", "splitter", "resolver") if (value := getattr(each, name))}
    return Traffic(**fields)


def pick(services: dict[str, Routed], line: str = "GET /", *fields: str, draw: float = 0.0) -> Leg:
    return chain_of(services, "web", datacenter="dc1").pick(view(line, *fields), draw)


def match(prefix: str) -> RequestMatch:
    return RequestMatch(http=HttpMatch(path_prefix=prefix))


def test_a_service_of_which_nothing_is_said_is_itself() -> None:
    """All of its instances, as they are."""
    chain = chain_of({"web": Routed()}, "web")
    assert Leg(route="default", target=Target("web")) == chain.pick(view(), 0.5)
    assert not chain.reads_path


def test_the_first_route_that_matches_decides_and_the_service_is_the_last() -> None:
    """Routes are asked in their order."""
    said = router("web", Route(match=CANARY, destination=to(service_subset="v2")), Route(match=match("/api"), destination=to("api")))
    services = {"web": Routed(together(said, resolver("web", subsets=SUBSETS))), "api": Routed()}
    assert ("Routes[0]", Target("web", "v2")) == route_of(pick(services, "GET /api", "x-canary: 1"))
    assert ("Routes[1]", Target("api")) == route_of(pick(services, "GET /api/x"))
    assert ("default", Target("web")) == route_of(pick(services, "GET /x"))
    assert chain_of(services, "web").reads_path


def route_of(leg: Leg) -> tuple[str, Target]:
    return leg.route, leg.target


def test_the_router_of_another_service_is_not_asked() -> None:
    """A route leads to the splitter and the resolver of its destination, as in Consul."""
    away = router("api", Route(destination=to("web")))
    services = {"web": Routed(router("web", Route(destination=to("api")))), "api": Routed(away)}
    assert Target("api") == pick(services).target


def test_splits_are_drawn_by_weight() -> None:
    """To a hundredth of a percent."""
    said = together(splitter("web", split(0.01, service_subset="v2"), split(89.99, service_subset="v1"), split(10, "api")), resolver("web", subsets=SUBSETS))
    services = {"web": Routed(said), "api": Routed()}
    chain = chain_of(services, "web")
    found = Counter(str(chain.pick(view(), (number + 0.5) / 10_000).target) for number in range(10_000))
    assert Counter({"web subset v1": 8999, "api": 1000, "web subset v2": 1}) == found
    assert pytest.approx((0.0001, 0.8999, 0.1)) == chain.ways[-1].shares


def test_splits_of_splits_multiply() -> None:
    """That of a service to itself goes to its own instances."""
    services = {
        "web": Routed(splitter("web", split(50), split(50, "api"))),
        "api": Routed(splitter("api", split(20, "new"), split(80))),
        "new": Routed(),
    }
    way = chain_of(services, "web").ways[-1]
    assert {"web": 0.5, "new": 0.1, "api": 0.4} == {str(leg.target): pytest.approx(share) for leg, share in zip(way.legs, way.shares, strict=True)}


def test_a_draw_at_the_end_is_one_of_the_last() -> None:
    """Shares that are no binary fractions leave no gap."""
    services = {"web": Routed(splitter("web", *(split(100 / 7, f"s{n}") for n in range(7)))), **{f"s{n}": Routed() for n in range(7)}}
    assert Target("s6") == pick(services, draw=1 - 2**-53).target


def test_a_share_of_nothing_takes_no_request() -> None:
    """Not even the first draw."""
    services = {"web": Routed(splitter("web", split(0, "api"), split(100))), "api": Routed()}
    assert Target("web") == pick(services).target


def test_redirects_and_default_subsets_are_followed() -> None:
    """As far as they lead; the last one says how its instances are treated."""
    balancer = LoadBalancer(policy="maglev")
    services = {
        "web": Routed(resolver("web", redirect=Redirect(service="api"), connect_timeout=Duration(10**9))),
        "api": Routed(resolver("api", default_subset="v2", subsets=SUBSETS, load_balancer=balancer, request_timeout=Duration(2 * 10**9))),
    }
    leg = pick(services)
    assert (Target("api", "v2"), balancer, 2.0, 0.0) == (leg.target, leg.balancer, leg.try_timeout_s, leg.connect_timeout_s)
    assert ("resolver: web means api", "resolver: api means api subset v2") == leg.steps


def test_a_redirect_may_lead_to_a_subset_of_the_same_service() -> None:
    """It is not followed once more from there."""
    assert Target("web", "v1") == pick({"web": Routed(resolver("web", redirect=Redirect(service="web", service_subset="v1"), subsets=SUBSETS))}).target


@pytest.mark.parametrize(
    ("services", "says"),
    [
        ({}, "no service web is known"),
        ({"web": Routed(router("web", Route(destination=to("ghost"))))}, "no service ghost is known"),
        ({"web": Routed(router("web", Route(destination=to(service_subset="v9"))))}, "web has no subset v9"),
        ({"web": Routed(together(router("web", Route(destination=to(service_subset="v9"))), resolver("web", subsets=SUBSETS)))}, "no subset v9"),
        ({"web": Routed(splitter("web", split(100, "db"))), "db": Routed(protocol="tcp")}, "db speaks tcp, and web speaks http"),
        ({"web": Routed(resolver("web", redirect=Redirect(service="api", peer="east"))), "api": Routed()}, "redirected to east"),
        ({"web": Routed(resolver("web", redirect=Redirect(datacenter="dc2")))}, "redirected to dc2"),
        ({"web": Routed(resolver("web", redirect=Redirect(service="a"))), "a": Routed(resolver("a", redirect=Redirect(service="web")))}, "in a circle"),
        ({"web": Routed(splitter("web", split(100, "a"))), "a": Routed(splitter("a", split(100, "web")))}, "splits lead in a circle"),
        ({"web": Routed(splitter("web", split(0)))}, "no split of web has a weight"),
        ({"web": Routed(Traffic(unreadable=("service-router",)))}, "service-router of web is not understood"),
        ({"web": Routed(Traffic(unreadable=("service-splitter",)))}, "service-splitter of web is not understood"),
        ({"web": Routed(Traffic(unreadable=("service-resolver",)))}, "service-resolver of web is not understood"),
        ({"web": Routed(router("web", Route(match=RequestMatch(http=HttpMatch(path_regex="(?=a)")))))}, "not a pattern"),
    ],
)
def test_what_leads_nowhere_is_refused(services: dict[str, Routed], says: str) -> None:
    """Never is another service called than the one that was said."""
    with pytest.raises(NoRoute, match=says):
        pick(services)


def test_a_redirect_to_this_datacenter_is_one_to_here() -> None:
    """Its name may be said."""
    services = {"web": Routed(resolver("web", redirect=Redirect(service="api", datacenter="dc1"))), "api": Routed()}
    assert Target("api") == pick(services).target


def test_only_the_lost_share_is_refused() -> None:
    """A split that leads nowhere takes nothing from the others."""
    services = {"web": Routed(splitter("web", split(50, "ghost"), split(50)))}
    with pytest.raises(NoRoute):
        pick(services, draw=0.1)
    assert Target("web") == pick(services, draw=0.9).target


def test_splits_are_not_multiplied_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a row of services with two ways to the next doubles them."""
    services: dict[str, Routed] = {f"s{n}": Routed(splitter(f"s{n}", split(50, f"s{n + 1}"), split(50, f"t{n}"))) for n in range(60)}
    services |= {f"t{n}": Routed(splitter(f"t{n}", split(100, f"s{n + 1}"))) for n in range(60)} | {"s60": Routed()}
    services["web"] = Routed(splitter("web", split(100, "s0")))
    with pytest.raises(NoRoute, match=f"more than {limits.CHAIN_LEGS} together"):
        pick(services)
    monkeypatch.setattr(limits, "CHAIN_LEGS", 1)
    with pytest.raises(NoRoute, match="more than 1 together"):
        pick({"web": Routed(splitter("web", split(50, "a"), split(50))), "a": Routed()})


def test_nor_are_splits_by_routes() -> None:
    """Whoever may write the entries of one service would keep every worker from its work. What is behind the bound is refused, and is no other route's."""
    parts = [split(0.2, f"s{n}") for n in range(500)]
    services = {"web": Routed(together(router("web", *(Route(match=match(f"/{n}/")) for n in range(100))), splitter("web", *parts)))}
    services |= {f"s{n}": Routed() for n in range(500)}
    looks = 2 * sum(len(way.legs) for way in chain_of(services, "web").ways)
    assert limits.CHAIN_LOOKS - 1000 < looks < limits.CHAIN_LOOKS + 1010
    assert Target("s0") == pick(services, "GET /1/x").target
    for line in ("GET /99/x", "GET /"):
        with pytest.raises(NoRoute, match=f"lead more than {limits.CHAIN_LOOKS} ways together, and those from 10 on are not followed"):
            pick(services, line)


def test_redirects_are_followed_so_far_and_no_further() -> None:
    """A chain of more than POLICY_HOPS ends in a refusal."""
    services = {f"s{n}": Routed(resolver(f"s{n}", redirect=Redirect(service=f"s{n + 1}"))) for n in range(limits.POLICY_HOPS + 1)}
    services |= {"web": Routed(resolver("web", redirect=Redirect(service="s0"))), f"s{limits.POLICY_HOPS + 1}": Routed()}
    with pytest.raises(NoRoute, match="or too far"):
        pick(services)


@pytest.mark.parametrize(
    ("failover", "stand_ins"),
    [
        ({"*": Failover(service="api")}, (Target("api", "v1"),)),
        ({"v2": Failover(service_subset="v1"), "*": Failover(service="api")}, (Target("web", "v1"),)),
        ({"v1": Failover(service="api")}, ()),
        ({"*": Failover(targets=(FailoverTarget(service="api", service_subset="v2"), FailoverTarget(service_subset="v1")))}, (Target("api", "v2"), Target("web", "v1"))),
        ({"*": Failover(targets=(FailoverTarget(service="api", datacenter="dc2"), FailoverTarget(service="api", datacenter="dc1")))}, (Target("api", "v1"),)),
        ({"*": Failover(datacenters=("dc2",))}, ()),
        ({"*": Failover(targets=(FailoverTarget(service="ghost"), FailoverTarget(service="api")))}, (Target("api", "v1"),)),
        ({"*": Failover(targets=(FailoverTarget(service="api", peer="east"),))}, ()),
        ({"*": Failover(sameness_group="all")}, ()),
    ],
)
def test_who_stands_in(failover: dict[str, Failover], stand_ins: tuple[Target, ...]) -> None:
    """The subset's own failover, else that of all; what is in other clusters is left out, and said so."""
    services = {
        "web": Routed(resolver("web", default_subset="v2", subsets=SUBSETS, failover=failover)),
        "api": Routed(resolver("api", default_subset="v1", subsets=SUBSETS)),
    }
    leg = pick(services)
    assert stand_ins == leg.stand_ins
    left_out = sum("left out" in step for step in leg.steps)
    assert left_out == sum(len(each.targets) + len(each.datacenters) + bool(each.sameness_group) for each in failover.values()) - len(stand_ins) or stand_ins


def test_edits_come_together_in_their_order() -> None:
    """Route, split, split of the split: the nearest to the instances has the last word."""
    edit = HeaderEdits(set_={"x-by": "route", "x-route": "1"}, add={"x-all": "route"})
    outer = HeaderEdits(set_={"x-by": "outer"}, add={"x-all": "outer"})
    inner = HeaderEdits(set_={"x-by": "inner"}, remove=("x-route",))
    services = {
        "web": Routed(together(router("web", Route(destination=to(request_headers=edit, response_headers=outer))), splitter("web", split(100, "api", request_headers=outer)))),
        "api": Routed(splitter("api", split(100, request_headers=inner, response_headers=inner))),
    }
    leg = pick(services)
    assert [(b"x-all", b"route"), (b"x-all", b"outer"), (b"x-by", b"inner")] == edited([(b"X-Route", b"0")], leg.request_edits)
    assert [(b"x-all", b"outer"), (b"x-by", b"inner")] == edited([], leg.response_edits)


def test_a_route_says_how_its_requests_are_treated() -> None:
    """Times, retries, and another beginning of the path."""
    said = to(prefix_rewrite="/", request_timeout=Duration(10**9), idle_timeout=Duration(10**8), num_retries=3, retry_on=("5xx",))
    leg = pick({"web": Routed(router("web", Route(match=match("/api/"), destination=said)))}, "GET /api/x")
    assert (1.0, 0.1, 3) == (leg.request_timeout_s, leg.idle_timeout_s, leg.retries.tries_more)
    assert (b"/x?q", [(b"x-a", b"1")]) == leg.onward(b"/api/x?q", [(b"x-a", b"1")])


def test_nothing_is_limited_in_time_unless_it_is_said() -> None:
    """An upload may take as long as it takes."""
    leg = pick({"web": Routed(router("web", Route(destination=to())))})
    assert (0.0, 0.0) == (leg.request_timeout_s, leg.try_timeout_s)


def test_ways_say_what_they_match() -> None:
    """For explanations."""
    every = HttpMatch(path_prefix="/a", methods=("GET", "PUT"), header=(HeaderMatch(name="x-a", present=True),))
    chain = chain_of({"web": Routed(router("web", Route(match=RequestMatch(http=every)), Route()))}, "web")
    assert ["path prefix /a, methods GET PUT, header x-a", "every request", "every request"] == [way.says for way in chain.ways]


def test_an_entry_is_not_changed_by_being_read() -> None:
    """Chains hold what they need."""
    said = router("web", Route(match=CANARY))
    before = msgspec.structs.replace(said)
    chain_of({"web": Routed(said)}, "web")
    assert before == said
