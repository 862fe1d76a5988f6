"""Which instance takes a request."""

import random
from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest

from nodeagent import limits
from nodeagent.decide.balance import (
    ByChance,
    Maglev,
    Picker,
    Pool,
    Ring,
    RoundRobin,
    is_usable,
    members,
    picker_of,
    pool_of,
)
from nodeagent.decide.chain import Leg, Target
from nodeagent.decide.hashing import hashed
from nodeagent.errors import NoInstance
from nodeagent.model.policy.resolving import LeastRequest as LeastSaid
from nodeagent.model.policy.resolving import LoadBalancer, RingHash
from nodeagent.model.service import Instance
from tests.support.routes import Routed, instance

THREE = tuple(instance(number, subsets=("v1",) if number < 2 else ()) for number in range(3))
KEYS = [hashed(b"%d" % number) for number in range(20_000)]
LEG = Leg(route="default", target=Target("web", "v1"), stand_ins=(Target("web"), Target("api")))


def pool(*instances: Instance, ejected: Iterable[str] = (), api: tuple[Instance, ...] = ()) -> Pool:
    return pool_of({"web": Routed(instances=instances), "api": Routed(instances=api)}, LEG, lambda _, each: each.id in ejected)


def counts(picker: Picker, number: int = 6_000, *, keys: bool = False, active: dict[str, int] | None = None) -> Counter[str]:
    draw = random.Random(7).random
    busy = active or {}
    return Counter(picker.pick(draw, lambda each: busy.get(each.id, 0), KEYS[n % len(KEYS)] if keys else None).id for n in range(number))


# --- who may -------------------------------------------------------------------------------------------------------


def test_the_target_s_instances_are_meant() -> None:
    """Those of its subset, while one is left."""
    assert Pool(LEG.target, THREE[:2]) == pool(*THREE)
    assert Pool(LEG.target, THREE[1:2]) == pool(*THREE, ejected=["i0"])


def test_members_are_those_of_the_subset() -> None:
    """Healthy or not; without a subset all, and of what is not known none."""
    services = {"web": Routed(instances=THREE)}
    assert THREE[:2] == members(services, Target("web", "v1"))
    assert THREE == members(services, Target("web"))
    assert () == members(services, Target("ghost"))


@pytest.mark.parametrize("facts", [{"healthy": False}, {"drained": True}, {"gone": True}, {"weight": 0}])
def test_the_catalog_takes_instances_out(facts: dict[str, bool]) -> None:
    """Sick, drained, gone, or of no weight."""
    out = instance(0, subsets=("v1",), **facts)
    assert not is_usable(out)
    assert Pool(LEG.target, THREE[1:2]) == pool(out, *THREE[1:])


def test_nobody_is_sent_to_who_has_no_address() -> None:
    """Registered without a port, or at an address that means each host itself."""
    nowhere = msgspec.structs.replace(instance(0, subsets=("v1",)), addresses=())
    assert not is_usable(nowhere)
    assert Pool(LEG.target, THREE[1:2]) == pool(nowhere, *THREE[1:])


def test_stand_ins_come_in_their_order() -> None:
    """The first that has anybody left."""
    assert Pool(Target("web"), THREE[2:], is_stand_in=True) == pool(*THREE, ejected=["i0", "i1"])
    assert Pool(Target("api"), THREE[:1], is_stand_in=True) == pool(api=THREE[:1])


def test_where_all_are_ejected_all_are_tried_again() -> None:
    """A guess of this host is not to take a service away; the catalog's word is."""
    assert Pool(LEG.target, THREE[:2], is_panic=True) == pool(*THREE, ejected=["i0", "i1", "i2"])
    sick = instance(0, subsets=("v1",), healthy=False)
    assert Pool(LEG.target, THREE[1:2], is_panic=True) == pool(sick, THREE[1], ejected=["i1"])
    with pytest.raises(NoInstance, match=r"no healthy instance of web subset v1 .* web, api"):
        pool(sick)


# --- how one is picked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["", "random", "round_robin", "least_request", "ring_hash", "maglev"])
def test_every_way_spreads_evenly(policy: str) -> None:
    """A third each, within a tenth; by hash, too, where requests have one."""
    picker = picker_of(LoadBalancer(policy=policy), THREE)
    for keys in (False, True):
        found = counts(picker, keys=keys)
        assert all(abs(count - 2_000) < 250 for count in found.values()), found


@pytest.mark.parametrize("policy", ["random", "round_robin", "least_request", "ring_hash", "maglev"])
def test_every_way_goes_by_weight(policy: str) -> None:
    """One of weight 4 takes four times as much."""
    picker = picker_of(LoadBalancer(policy=policy), (instance(0, weight=4), instance(1), instance(2)))
    found = counts(picker, keys=True)
    assert abs(found["i0"] - 4_000) < 350, found
    assert abs(found["i1"] - 1_000) < 200, found


@pytest.mark.parametrize("policy", ["random", "round_robin", "least_request", "ring_hash", "maglev"])
def test_one_alone_takes_all(policy: str) -> None:
    """By every way."""
    assert Counter(i0=100) == counts(picker_of(LoadBalancer(policy=policy), THREE[:1]), 100, keys=True)


def test_one_after_the_other_in_turn() -> None:
    """From anywhere on; who has more weight does not come twice in a row without need."""
    picker = RoundRobin(THREE)
    turns = [picker.pick(lambda: 0.5, lambda _: 0, None).id for _ in range(6)]
    assert turns[:3] == turns[3:]
    assert turns[0] == "i1"
    heavy = RoundRobin((instance(0, weight=2), instance(1), instance(2)))
    order = [heavy.pick(lambda: 0.0, lambda _: 0, None).id for _ in range(8)]
    assert Counter(i0=4, i1=2, i2=2) == Counter(order)
    assert "i0i0i0" not in "".join(order)


def test_the_less_busy_of_two_is_picked() -> None:
    """A busy instance is picked only where it is drawn twice; for its weight one may be busier."""
    picker = picker_of(LoadBalancer(policy="least_request"), THREE)
    assert abs(counts(picker, 9_000, active={"i0": 10})["i0"] - 1_000) < 150
    weighed = picker_of(LoadBalancer(policy="least_request"), (instance(0, weight=4), instance(1)))
    assert counts(weighed, 1_000, active={"i0": 4, "i1": 2})["i0"] > 900


def test_more_choices_find_the_least_busy_more_often() -> None:
    """As many as the entry says, up to LEAST_CHOICES."""
    many = tuple(instance(number) for number in range(10))
    active = {f"i{number}": 10 for number in range(9)}
    shares = [
        counts(picker_of(LoadBalancer(policy="least_request", least_request_config=LeastSaid(choice_count=choices)), many), 2_000, active=active)["i9"]
        for choices in (1, 2, 8, 10**9)
    ]
    assert shares == sorted(shares)
    drawn = 0

    def draw() -> float:
        nonlocal drawn
        drawn += 1
        return 0.0

    picker_of(LoadBalancer(policy="least_request", least_request_config=LeastSaid(choice_count=10**9)), many).pick(draw, lambda _: 0, None)
    assert limits.LEAST_CHOICES == drawn


@pytest.mark.parametrize("kind", [lambda all_: Ring(all_, RingHash()), Maglev], ids=["ring_hash", "maglev"])
def test_who_goes_takes_only_its_own_requests_along(kind) -> None:
    """All others stay where they were, or nearly all; and the order in which instances are told is nothing."""
    ten = tuple(instance(number) for number in range(10))
    before, after, shuffled = kind(ten), kind(ten[1:]), kind(ten[::-1])
    picks = [(before.pick(random.random, len, key), after.pick(random.random, len, key)) for key in KEYS]
    moved = sum(one != other for one, other in picks if one.id != "i0")
    assert moved < len(KEYS) * 0.05
    assert all(other.id != "i0" for _, other in picks)
    assert all(one == shuffled.pick(random.random, len, key) for key, (one, _) in zip(KEYS, picks, strict=True))


def test_a_ring_has_the_size_that_is_said() -> None:
    """Between RING_POINTS_MIN and RING_POINTS_MAX, and every instance is on it."""

    def size(instances: tuple[Instance, ...], **said: int) -> int:
        return len(Ring(instances, RingHash(**said))._hashes)

    assert limits.RING_POINTS_MIN <= size(THREE) < 2 * limits.RING_POINTS_MIN
    assert limits.RING_POINTS_MAX / 2 < size(THREE, minimum_ring_size=10**7) <= limits.RING_POINTS_MAX
    assert 45 < size(THREE, minimum_ring_size=90, maximum_ring_size=90) <= 90
    uneven = (instance(0, weight=65_535), instance(1))
    assert size(uneven, minimum_ring_size=10**7) <= limits.RING_POINTS_MAX + 1
    assert {"i0", "i1"} == {each.id for each in Ring(uneven, RingHash())._instances}


def test_a_table_has_some_hundred_places_for_each() -> None:
    """Up to the largest size."""
    for number, size in zip((3, 100, 700), limits.MAGLEV_SIZES, strict=True):
        assert size == len(Maglev([instance(each) for each in range(number)])._table)


def test_the_largest_draw_is_one_of_the_last() -> None:
    """No draw is outside."""
    assert THREE[-1] == ByChance(THREE).pick(lambda: 1 - 2**-53, lambda _: 0, None)
