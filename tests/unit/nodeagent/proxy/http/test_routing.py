"""Ways of requests: made once, given to instances in turn, and made anew when something of it has changed."""

from collections import Counter

import msgspec
import pytest

from nodeagent import limits
from nodeagent.errors import Denied, NoInstance, NoRoute
from nodeagent.model.intention import Intention
from nodeagent.model.message import RequestHead
from nodeagent.model.policy.http import HttpMatch, RequestMatch
from nodeagent.model.policy.own import RetryBudget
from nodeagent.model.policy.resolving import HashPolicy, LoadBalancer
from nodeagent.model.policy.routing import Route
from nodeagent.model.service import Host, Instance, Service
from nodeagent.model.snapshot import Mesh, Registration, Snapshot
from nodeagent.model.traffic import Traffic
from nodeagent.proxy.http.routing import Router
from tests.support.routes import instance, resolver, router, to

V2 = Route(match=RequestMatch(http=HttpMatch(path_prefix="/v2")), destination=to("other", prefix_rewrite="/"))


def snapshot(traffic: Traffic | None = None, *, generation: int = 1, action="allow", instances: int = 2) -> Snapshot:
    """`web` on h1 and h2, `other` on h9, all with agents; this is h0."""
    webs = tuple(instance(number) for number in range(1, instances + 1))
    others = (instance(9),)
    say = (Intention("shop", "web", action),)
    services = {
        "web": Service("web", protocol="http", instances=webs, intentions=say, traffic=traffic),
        "other": Service("other", protocol="http", instances=others, intentions=(Intention("shop", "other", "allow"),)),
    }
    hosts = {each.host: Host(each.host, (each.addresses[0].ip,), 15008) for each in (*webs, *others)}
    by_address = {address: Registration(service, each) for service in services.values() for each in service.instances for address in each.addresses}
    by_ip = {host.addresses[0]: host for host in hosts.values()}
    return Snapshot(generation, Mesh("td", "dc1", "h0"), services, hosts, (), by_address, by_ip, {})


def head(path: bytes = b"/a", *headers: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", path, b"web", list(headers))


def test_requests_take_turns_at_instances() -> None:
    """And each counts as busy until it is over."""
    made, now = Router(1), snapshot(resolver("web", load_balancer=LoadBalancer(policy="round_robin")))
    told = Counter[str]()
    for _ in range(10):
        trip = made.begin(now, "web", head(), b"10.0.0.5")
        via = made.aim(now, "shop", trip, family=4)
        told[str(via.address)] += 1
        assert (via.path, via.service) == ("tunnel", "web")
        assert trip.pick is not None
        assert made.dispatch.active(trip.pick.course, trip.pick.instance) == 1
        made.end(trip, is_failure=False)
    assert sorted(told.values()) == [5, 5]


def test_one_that_failed_is_not_tried_again_while_there_are_others() -> None:
    now = snapshot(resolver("web"))
    for _ in range(20):
        made = Router(1)
        trip = made.begin(now, "web", head(), b"")
        first = made.aim(now, "shop", trip, family=4)
        made.end(trip, is_failure=True)
        assert made.aim(now, "shop", trip, family=4).address != first.address
        made.end(trip, is_failure=False)


def test_an_instance_that_fails_again_and_again_is_left_alone() -> None:
    """It is told when that happens, and the other one has all of the turns."""
    made, now, ejections = Router(1), snapshot(resolver("web", load_balancer=LoadBalancer(policy="round_robin"))), 0
    for _ in range(4 * limits.EJECT_FAILURES):
        trip = made.begin(now, "web", head(), b"")
        is_bad = made.aim(now, "shop", trip, family=4).address == now.services["web"].instances[0].addresses[0]
        ejections += made.end(trip, is_failure=is_bad) is not None
    assert ejections == 1
    for _ in range(4):
        trip = made.begin(now, "web", head(), b"")
        assert made.aim(now, "shop", trip, family=4).address == now.services["web"].instances[1].addresses[0]
        assert made.end(trip, is_failure=False) is None


def test_a_route_leads_to_another_service_with_another_path() -> None:
    made, now = Router(1), snapshot(router("web", V2))
    trip = made.begin(now, "web", head(b"/v2/%78?y"), b"")
    assert (trip.target, trip.leg.route) == (b"/x?y", "Routes[0]")
    assert made.aim(now, "shop", trip, family=4).service == "other"


def test_a_chain_is_made_anew_where_a_service_of_it_is_another() -> None:
    made, first = Router(1), snapshot(router("web", V2))
    chain = made.chain(first, "web")
    later = snapshot(generation=2)
    same = msgspec.structs.replace(first.mesh)
    assert made.chain(Snapshot(3, same, first.services, first.hosts), "web") is chain
    changed = {**first.services, "other": later.services["other"]}
    assert made.chain(Snapshot(4, same, changed, first.hosts), "web") is not chain


def test_chains_and_budgets_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_RULES", 1)
    made, now = Router(1), snapshot()
    chain, budget = made.chain(now, "web"), made.budget(now, "web")
    made.chain(now, "other")
    made.budget(now, "other")
    assert made.chain(now, "web") is not chain
    assert made.budget(now, "web") is not budget


def test_a_budget_is_that_of_its_entry() -> None:
    made = Router(1)
    usual = made.budget(snapshot(), "web")
    said = Traffic(retry_budget=RetryBudget(kind="retry-budget", name="web", max_body_bytes=7))
    assert made.budget(snapshot(said), "web").body_bytes == 7
    assert usual.body_bytes == limits.RETRY_BODY_BYTES


def test_who_may_not_call_the_service_has_no_way() -> None:
    """And nothing counts as busy."""
    made, now = Router(1), snapshot(resolver("web"), action="deny", instances=1)
    trip = made.begin(now, "web", head(), b"")
    with pytest.raises(Denied):
        made.aim(now, "shop", trip, family=4)
    assert trip.pick is None
    assert made.dispatch.active(("shop", trip.leg.target), now.services["web"].instances[0]) == 0


def test_an_address_that_is_another_service_s_is_not_called_in_its_name() -> None:
    now = snapshot(resolver("web"), instances=1)
    (web,) = now.services["web"].instances
    now.by_address[web.addresses[0]] = Registration(now.services["other"], web)
    made = Router(1)
    with pytest.raises(NoInstance):
        made.aim(now, "shop", made.begin(now, "web", head(), b""), family=4)


def test_a_way_that_leads_nowhere_is_said() -> None:
    made, now = Router(1), snapshot(resolver("web", default_subset="v9"))
    with pytest.raises(NoRoute):
        made.begin(now, "web", head(), b"")


def test_requests_alike_go_to_one_instance() -> None:
    """By what is hashed; and a cookie is made for those that have none."""
    policies = (HashPolicy(field="header", field_value="x-user"),)
    now = snapshot(resolver("web", load_balancer=LoadBalancer(policy="maglev", hash_policies=policies)), instances=9)
    made, told = Router(1), set[Instance]()
    for _ in range(20):
        trip = made.begin(now, "web", head(b"/", (b"X-User", b"ann")), b"")
        made.aim(now, "shop", trip, family=4)
        assert trip.pick
        told.add(trip.pick.instance)
        made.end(trip, is_failure=False)
    assert len(told) == 1
