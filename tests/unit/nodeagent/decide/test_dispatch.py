"""Which instance takes the next request, as one worker sees them."""

import random
from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from nodeagent import limits
from nodeagent.decide.chain import Leg, Target
from nodeagent.decide.dispatch import Dispatch, Pick, name_of
from nodeagent.decide.outlier import Ejection
from nodeagent.errors import BreakerOpen, NoInstance, Side
from nodeagent.model.policy.defaults import CallLimits, PassiveHealthCheck, Upstream, UpstreamConfig
from nodeagent.model.policy.resolving import LoadBalancer
from nodeagent.model.snapshot import Snapshot
from tests.support.routed_mesh import routed_mesh
from tests.support.routes import instance

THREE = tuple(instance(number) for number in range(3))
LEG = Leg(route="default", target=Target("web"))
COURSE = ("shop", Target("web"))


def mesh(said: Upstream | None = None, **facts) -> Snapshot:
    """web with three instances; shop says how it calls."""
    made = routed_mesh(instances=facts.pop("instances", THREE), **facts)
    shop = msgspec.structs.replace(made.services["shop"], upstreams=UpstreamConfig(defaults=said) if said else None)
    return replace(made, services={**made.services, "shop": shop})


def dispatch(**facts: int) -> Dispatch:
    return Dispatch(random.Random(3).random, **facts)


def fail(it: Dispatch, made: Snapshot, name: str, now: float = 0.0, times: int = limits.EJECT_FAILURES) -> Ejection | None:
    """Has one instance fail."""
    ejection = None
    while times:
        pick = it.take(made, "shop", LEG, now)
        ejection = it.give_back(pick, now, is_failure=True) if pick.instance.id == name else it.give_back(pick, now, is_failure=False)
        times -= pick.instance.id == name
    return ejection


def ids(it: Dispatch, made: Snapshot, now: float = 0.0, number: int = 200, *, leg: Leg = LEG) -> set[str]:
    """Who takes requests."""
    found = set()
    for _ in range(number):
        pick = it.take(made, "shop", leg, now)
        found.add(pick.instance.id)
        it.give_back(pick, now, is_failure=False)
    return found


def test_instances_take_turns_by_the_entry_s_policy() -> None:
    """Busy ones less often, where that is said."""
    it, made = dispatch(), mesh()
    assert {"i0", "i1", "i2"} == ids(it, made)
    least = replace(LEG, balancer=LoadBalancer(policy="least_request"))
    picks = [it.take(made, "shop", least, 0.0) for _ in range(300)]
    assert all(90 < count < 110 for count in Counter(pick.instance.id for pick in picks).values())
    assert sum(it.active(COURSE, each) for each in THREE) == 300
    for pick in picks:
        it.give_back(pick, 0.0, is_failure=False)
    assert [0, 0, 0] == [it.active(COURSE, each) for each in THREE]
    assert it.active(("cart", Target("web")), THREE[0]) == 0


def test_a_dead_instance_is_ejected_and_comes_back() -> None:
    """After its time."""
    it, made = dispatch(), mesh()
    assert Ejection("h1/i1", limits.EJECT_S, 1) == fail(it, made, "i1")
    assert {"i0", "i2"} == ids(it, made, 1.0)
    assert {"i0", "i1", "i2"} == ids(it, made, limits.EJECT_S)


def test_what_another_worker_saw_counts_here() -> None:
    """From the next request on."""
    it, made = dispatch(), mesh()
    assert {"i0", "i1", "i2"} == ids(it, made)
    it.hear(made, COURSE, Ejection("h2/i2", 5.0, 1), 0.0)
    assert {"i0", "i1"} == ids(it, made, 4.9)
    assert {"i0", "i1", "i2"} == ids(it, made, 5.0)


def test_one_caller_s_failures_are_its_own() -> None:
    """Another may reach what this one does not."""
    it, made = dispatch(), mesh()
    fail(it, made, "i1")
    assert "i1" in {it.take(made, "cart", LEG, 1.0).instance.id for _ in range(100)}


def test_a_stand_in_takes_what_nobody_else_can() -> None:
    """When all of the target are sick, or were ejected; then again the target, where nobody stands in."""
    leg = replace(LEG, stand_ins=(Target("api"),))
    sick = tuple(msgspec.structs.replace(each, healthy=False) for each in THREE)
    it = dispatch()
    pick = it.take(mesh(instances=sick), "shop", leg, 0.0)
    assert ("i9", ("shop", Target("api")), True) == (pick.instance.id, pick.course, pick.is_stand_in)
    with pytest.raises(NoInstance):
        it.take(mesh(instances=sick), "shop", LEG, 0.0)
    all_of_two = PassiveHealthCheck(max_ejection_percent=100)
    made = mesh(Upstream(passive_health_check=all_of_two), instances=(sick[0], *THREE[1:]))
    for each in THREE[1:]:
        it.hear(made, COURSE, Ejection(name_of(each), 9.0, 1), 0.0)
    assert {"i9"} == ids(it, made, leg=leg)
    assert it.take(made, "shop", LEG, 0.0).is_panic


def test_a_retry_goes_elsewhere() -> None:
    """While there is anybody; also where the hash would say the same again."""
    it, made = dispatch(), mesh()
    hashed = replace(LEG, balancer=LoadBalancer(policy="maglev"))
    first = it.take(made, "shop", hashed, 0.0, key=7)
    assert all(first == again for again in (it.take(made, "shop", hashed, 0.0, key=7) for _ in range(20)))
    others = {it.take(made, "shop", hashed, 0.0, key=7, tried=[first.name]).name for _ in range(50)}
    assert {name_of(each) for each in THREE} - {first.name} == others
    assert it.take(made, "shop", hashed, 0.0, tried=[name_of(each) for each in THREE]).instance in THREE


def test_the_breaker_sheds_what_is_too_much() -> None:
    """By the caller's own entry; what is given back can be taken again."""
    it, made = dispatch(), mesh(Upstream(limits=CallLimits(max_concurrent_requests=2)))
    one = it.take(made, "shop", LEG, 0.0)
    it.take(made, "shop", LEG, 0.0)
    with pytest.raises(BreakerOpen, match="MaxConcurrentRequests") as refused:
        it.take(made, "shop", LEG, 0.0)
    assert (refused.value.side, refused.value.course) == (Side.MESH, COURSE)
    assert it.gauge(made, COURSE).used == 2
    it.give_back(one, 0.0, is_failure=False)
    assert it.take(made, "shop", LEG, 0.0)


def test_workers_have_a_share_each_of_a_bound() -> None:
    """Together no more than it."""
    made = mesh(Upstream(limits=CallLimits(max_concurrent_requests=10)))
    assert dispatch(workers=4).gauge(made, COURSE).share == 2


EIGHT = Upstream(limits=CallLimits(max_concurrent_requests=8, max_connections=8))


def test_where_somebody_leases_nothing_is_used_before_it_was_leased() -> None:
    """A bound that nobody said is ours alone: there each has its part at once."""
    made, it = mesh(EIGHT), dispatch(workers=4)
    it.lead(made, is_led=True)
    with pytest.raises(BreakerOpen):
        it.take(made, "shop", LEG, 0.0)
    assert {COURSE} == it.changed
    it.gauge(made, COURSE).take_share(1)
    it.changed.clear()
    pick = it.take(made, "shop", LEG, 0.0)
    assert {COURSE} == it.changed, "more is asked for before it is needed"
    it.changed.clear()
    it.gauge(made, COURSE).take_share(0)
    it.give_back(pick, 0.0, is_failure=False)
    assert {COURSE} == it.changed, "what somebody waits for is told of"
    assert it.gauge(mesh(), ("shop", Target("api"))).share == limits.BREAKER_CALLS // 4


def test_without_who_leased_each_goes_on_with_its_part() -> None:
    """Whatever it had."""
    made, it = mesh(EIGHT), dispatch(workers=4)
    it.lead(made, is_led=True)
    assert it.gauge(made, COURSE).take_share(7) == 7
    it.lead(made, is_led=False)
    assert it.gauge(made, COURSE).share == 2
    it.lead(made, is_led=True)
    it.gauge(made, COURSE).take_share(0)
    it.go_alone(made, COURSE)
    assert it.gauge(made, COURSE).share == 2


def test_connections_have_a_bound_of_their_own() -> None:
    """And a course of which connections are open is not forgotten."""
    made, it = mesh(EIGHT), dispatch(workers=4)
    assert [True, True, False] == [it.try_connect(made, COURSE) for _ in range(3)]
    it.disconnect(COURSE)
    assert it.gauge(made, COURSE, "connections").used == 1
    assert [COURSE] == it.courses()
    it.disconnect(COURSE)
    it.disconnect(COURSE)
    it.disconnect(("shop", Target("gone")))
    assert it.gauge(made, COURSE, "connections").used == 0
    assert it.waiting(made, COURSE).limit == limits.BREAKER_CALLS


def test_that_all_connections_rest_is_told() -> None:
    """Also where the last one that did not has been closed: what was refused before is wanted no more."""
    made, it = mesh(EIGHT), dispatch(workers=4)
    gauge = it.gauge(made, COURSE, "connections")
    assert [True, True, False] == [it.try_connect(made, COURSE) for _ in range(3)]
    gauge.tell()
    it.rest(COURSE, 1)
    assert not it.changed
    it.disconnect(COURSE)
    assert ({COURSE}, 0) == (it.changed, gauge.wanted)


def test_ejections_of_all_workers_keep_to_the_cap() -> None:
    """Each saw another instance fail."""
    it, made = dispatch(), mesh()
    it.hear(made, COURSE, Ejection("h1/i1", 9.0, 1), 0.0)
    it.hear(made, COURSE, Ejection("h2/i2", 9.0, 1), 0.0)
    assert {"i0", "i2"} == ids(it, made)


def test_a_change_of_entries_is_followed_with_what_is_open() -> None:
    """Bounds and ejections are by the new ones, and nothing is counted twice."""
    it = dispatch()
    it.take(mesh(), "shop", LEG, 0.0)
    made = mesh(Upstream(limits=CallLimits(max_concurrent_requests=2), passive_health_check=PassiveHealthCheck(max_failures=1)))
    assert it.gauge(made, COURSE).used == 1
    assert fail(it, made, "i1", times=1) is not None
    fewer = mesh(instances=THREE[:2])
    assert {"i0"} == ids(it, fewer)


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Courses on which something is open stay."""
    monkeypatch.setattr(limits, "DISPATCH_LANES", 4)
    it, made = dispatch(), mesh()
    kept = it.take(made, "shop", LEG, 0.0)
    for number in range(50):
        it.give_back(it.take(made, f"s{number}", LEG, 0.0), 0.0, is_failure=False)
    assert len(it._lanes) <= limits.DISPATCH_LANES
    assert len(it._ready) <= limits.DISPATCH_LANES
    assert it.active(COURSE, kept.instance) == 1
    assert it.give_back(kept, 0.0, is_failure=False) is None


def test_a_pick_is_named_by_host_and_id() -> None:
    """Ids are a host's own."""
    assert "h1/i1" == Pick(COURSE, THREE[1]).name
