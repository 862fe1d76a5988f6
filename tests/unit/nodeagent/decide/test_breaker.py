"""How much one caller may have open at once."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent import limits
from nodeagent.decide.breaker import (
    Bounds,
    CallRules,
    Gauge,
    Use,
    bounds_of,
    call_rules,
    first_shares,
    lease,
    static_share,
)
from nodeagent.model.policy.defaults import CallLimits, PassiveHealthCheck, Upstream, UpstreamConfig

USUAL, OWN = CallLimits(max_connections=1), CallLimits(max_pending_requests=2)
HEALTH = PassiveHealthCheck(max_failures=3)


@pytest.mark.parametrize(
    ("said", "bounds"),
    [
        (None, Bounds()),
        (CallLimits(), Bounds(limits.BREAKER_CALLS, limits.BREAKER_CALLS, limits.BREAKER_CALLS)),
        (CallLimits(max_connections=5, max_pending_requests=0, max_concurrent_requests=7), Bounds(5, 0, 7)),
    ],
)
def test_an_entry_says_how_much(said: CallLimits | None, bounds: Bounds) -> None:
    """Nothing said is Envoy's bound; 0 is none at all."""
    assert bounds == bounds_of(said)


@pytest.mark.parametrize(
    ("said", "rules"),
    [
        (None, CallRules()),
        (UpstreamConfig(), CallRules()),
        (UpstreamConfig(defaults=Upstream(limits=USUAL, connect_timeout_ms=1500)), CallRules(USUAL, None, 1.5)),
        (UpstreamConfig(defaults=Upstream(limits=USUAL), overrides=(Upstream(name="web", limits=OWN),)), CallRules(OWN)),
        (UpstreamConfig(defaults=Upstream(limits=USUAL), overrides=(Upstream(name="api", limits=OWN),)), CallRules(USUAL)),
        (UpstreamConfig(defaults=Upstream(limits=USUAL), overrides=(Upstream(name="web", passive_health_check=HEALTH),)), CallRules(USUAL, HEALTH)),
        (UpstreamConfig(overrides=(Upstream(name="web", peer="east", limits=OWN),)), CallRules()),
    ],
)
def test_a_caller_says_how_it_calls_a_service(said: UpstreamConfig | None, rules: CallRules) -> None:
    """What the service's override does not say is as with all."""
    assert rules == call_rules(said, "web")


def test_a_worker_counts_within_its_share() -> None:
    """What is given back can be taken again."""
    gauge = Gauge(2)
    assert [True, True, False] == [gauge.try_take() for _ in range(3)]
    gauge.give_back()
    assert gauge.try_take()
    assert gauge.wanted == 4


def test_a_share_is_not_taken_from_under_what_is_in_use() -> None:
    """The worker tells what it kept."""
    gauge = Gauge(5)
    for _ in range(4):
        gauge.try_take()
    assert gauge.take_share(1) == 4
    assert not gauge.try_take()
    assert gauge.take_share(6) == 6
    assert gauge.refused == 0


def test_who_needs_nothing_wants_nothing() -> None:
    """Else four idle workers would keep four of a bound of eight from the one that is busy."""
    gauge = Gauge(2, 8)
    assert (gauge.wanted, gauge.is_short) == (0, False)
    gauge.try_take()
    assert (gauge.wanted, gauge.is_short) == (2, False)
    gauge.try_take()
    assert (gauge.wanted, gauge.is_short) == (3, True)


def test_what_was_kept_beyond_a_share_is_given_back_as_it_ends() -> None:
    """And told: somebody waits for it."""
    gauge = Gauge(4, 8)
    for _ in range(4):
        gauge.try_take()
    gauge.take_share(3)
    assert (gauge.give_back(), gauge.share) == (True, 3)
    assert (gauge.give_back(), gauge.share) == (False, 3)


def test_what_rests_is_held_and_not_wanted() -> None:
    """It could be given up: who waits is not to wait for that."""
    gauge = Gauge(2, 8)
    gauge.try_take()
    gauge.idle = 1
    assert (1, 0) == (gauge.used, gauge.wanted)
    assert gauge.try_take()
    assert gauge.wanted == 2


def test_that_nothing_is_wanted_any_more_is_told_once() -> None:
    """Else what an idle worker had asked for would be kept from those that are busy."""
    gauge = Gauge(2, 8)
    assert [True, True, False] == [gauge.try_take() for _ in range(3)]
    assert (2, 4) == gauge.tell()
    assert [False, True] == [gauge.give_back() for _ in range(2)]
    assert (2, 0) == gauge.tell()
    gauge.try_take()
    assert not gauge.give_back()


def test_a_new_bound_leaves_what_is_open() -> None:
    """It counts, and nothing more is opened beyond it."""
    gauge = Gauge(4, 8)
    for _ in range(4):
        gauge.try_take()
    gauge.begin_anew(2, 1)
    assert (gauge.held, gauge.used, gauge.try_take()) == (4, 4, False)


def test_without_leases_each_has_a_part_and_one_in_any_case() -> None:
    """But where the bound is that there be none."""
    assert [2, 1, 1, 0] == [static_share(limit, 4) for limit in (10, 4, 1, 0)]


def test_first_shares_are_even() -> None:
    """And all of it."""
    assert (3, 3, 2, 2) == first_shares(10, 4)
    assert (1, 0, 0, 0) == first_shares(1, 4)


def test_who_needs_more_gets_it_in_two_steps() -> None:
    """First the others are told less; when they told what they kept, it is given on."""
    uses = [Use(25, 80), Use(25, 2), Use(25, 2), Use(25, 2)]
    told = lease(100, uses)
    assert told[0] == 25
    assert all(share < 25 for share in told[1:])
    after = lease(100, [Use(25, 80), *(Use(share, 2) for share in told[1:])])
    assert after[0] > 80
    assert sum(after) == 100


def test_a_bound_of_one_goes_to_who_asks() -> None:
    """Not for ever to the first worker."""
    told = lease(1, [Use(1, 0), Use(0, 1)])
    assert (0, 0) == told
    assert (0, 1) == lease(1, [Use(0, 0), Use(0, 1)])


@given(st.integers(0, 60), st.lists(st.tuples(st.integers(0, 20), st.integers(0, 50)), min_size=1, max_size=5))
def test_shares_are_never_more_than_the_bound(limit: int, rows: list[tuple[int, int]]) -> None:
    """With what anyone may still hold; unless more was held before."""
    uses = [Use(held, wanted) for held, wanted in rows]
    told = lease(limit, uses)
    most = sum(max(use.held, share) for use, share in zip(uses, told, strict=True))
    assert most <= max(limit, sum(use.held for use in uses))


@pytest.mark.parametrize("limit", [1, 3, 10, 64])
def test_four_workers_never_have_more_than_the_bound_and_one_can_have_nearly_all(limit: int) -> None:
    """Whenever they hear of their shares, and however requests come and go."""
    chance = random.Random(limit)
    gauges = [Gauge(share) for share in first_shares(limit, 4)]
    held = [gauge.share for gauge in gauges]
    mail: list[list[int]] = [[] for _ in gauges]
    for step in range(4_000):
        number = chance.randrange(4) if step < 2_000 else 2
        gauge = gauges[number]
        if chance.random() < 0.5:
            gauge.try_take()
        elif gauge.used and step < 2_000:
            gauge.give_back()
        if step >= 2_000:
            for other in gauges[:2] + gauges[3:]:
                other.used = 0
        if step % 7 == 0:
            for each, share in enumerate(lease(limit, [Use(h, g.wanted) for h, g in zip(held, gauges, strict=True)])):
                mail[each].append(share)
                held[each] = max(held[each], share)
        to = chance.randrange(4)
        if mail[to]:
            share = mail[to][-1]
            mail[to].clear()
            held[to] = gauges[to].take_share(share)
        assert sum(each.used for each in gauges) <= limit
    assert gauges[2].used >= limit - 3
