"""Instances that fail."""

import pytest

from nodeagent import limits
from nodeagent.decide.outlier import Ejection, EjectRules, Outliers, eject_rules
from nodeagent.model.policy.defaults import PassiveHealthCheck
from nodeagent.model.policy.values import Duration


def fail(outliers: Outliers, name: str, now: float, times: int = limits.EJECT_FAILURES, *, among: int = 10, draw: float = 0.0) -> Ejection | None:
    made = None
    for _ in range(times):
        made = outliers.failed(name, now, among=among, draw=draw)
    return made


def test_who_fails_in_a_row_is_left_alone_for_a_while() -> None:
    """And comes back by itself."""
    outliers = Outliers(EjectRules())
    assert fail(outliers, "a", 0.0, limits.EJECT_FAILURES - 1) is None
    assert Ejection("a", limits.EJECT_S, 1) == fail(outliers, "a", 0.0, 1)
    assert outliers.is_ejected("a", 29.9)
    assert outliers.next_return(1.0) == limits.EJECT_S
    assert not outliers.is_ejected("a", 30.0)
    assert outliers.next_return(30.0) is None


def test_one_good_answer_begins_the_count_anew() -> None:
    """In a row is in a row."""
    outliers = Outliers(EjectRules())
    fail(outliers, "a", 0.0, limits.EJECT_FAILURES - 1)
    outliers.succeeded("a")
    outliers.succeeded("never-heard-of")
    assert fail(outliers, "a", 0.0, limits.EJECT_FAILURES - 1) is None


def test_each_time_is_longer_up_to_a_bound() -> None:
    """And what lies long enough ago is forgiven, time by time."""
    outliers = Outliers(EjectRules())
    now, spans = 0.0, []
    for _ in range(12):
        made = fail(outliers, "a", now)
        assert made is not None
        spans.append(made.until - now)
        now = made.until
    assert [30, 60, 90] == spans[:3]
    assert limits.EJECT_MAX_S == max(spans) == spans[-1]
    made = fail(outliers, "a", now + 11 * limits.EJECT_INTERVAL_S)
    assert made is not None
    assert made.times == 2


def test_a_longer_time_that_is_said_is_not_cut() -> None:
    """The bound is for growth."""
    made = fail(Outliers(EjectRules(base_s=1000.0)), "a", 0.0)
    assert made is not None
    assert made.until == 1000.0


@pytest.mark.parametrize(("among", "percent", "most"), [(1, 10, 0), (1, 100, 0), (2, 10, 1), (3, 100, 2), (9, 10, 1), (30, 10, 3), (30, 0, 0), (2, 100, 1)])
def test_not_too_many_at_once(among: int, percent: int, most: int) -> None:
    """A share of them, one of several in any case, and never the last."""
    outliers = Outliers(EjectRules(percent=percent))
    assert most == sum(fail(outliers, f"i{number}", 0.0, among=among) is not None for number in range(among))
    assert most == len(outliers.ejected(0.0))


def test_when_there_is_room_again_the_next_failure_ejects() -> None:
    """Who went on failing meanwhile is not forgotten."""
    outliers = Outliers(EjectRules())
    fail(outliers, "a", 0.0, among=2)
    assert fail(outliers, "b", 0.0, among=2) is None
    assert fail(outliers, "b", 30.0, 1, among=2) is not None


def test_what_was_under_way_does_not_count() -> None:
    """Answers that come after the ejection are of before."""
    outliers = Outliers(EjectRules())
    fail(outliers, "a", 0.0)
    assert fail(outliers, "a", 1.0, 100) is None
    assert fail(outliers, "a", 30.0, limits.EJECT_FAILURES - 1) is None


def test_only_some_are_ejected_where_that_is_said() -> None:
    """By chance."""
    rules = EjectRules(enforced=0.5)
    assert fail(Outliers(rules), "a", 0.0, draw=0.5) is None
    assert fail(Outliers(rules), "a", 0.0, draw=0.4) is not None
    assert fail(Outliers(EjectRules(failures=0)), "a", 0.0, 100) is None


def test_what_another_worker_saw_holds_here() -> None:
    """For as long as the longer of both."""
    outliers = Outliers(EjectRules())
    outliers.take(Ejection("a", 50.0, 2), 0.0, among=3)
    outliers.take(Ejection("a", 40.0, 1), 0.0, among=3)
    assert [Ejection("a", 50.0, 2)] == outliers.ejected(49.0)
    made = fail(outliers, "a", 50.0)
    assert made is not None
    assert made.times == 3


def test_who_is_gone_is_forgotten() -> None:
    """Memory is for those that are there."""
    outliers = Outliers(EjectRules())
    fail(outliers, "a", 0.0)
    fail(outliers, "b", 0.0, 1)
    outliers.keep(frozenset("b"))
    assert {"b"} == outliers._states.keys()


@pytest.mark.parametrize(
    ("said", "rules"),
    [
        (None, EjectRules(limits.EJECT_FAILURES, limits.EJECT_PERCENT, limits.EJECT_S, limits.EJECT_INTERVAL_S, 1.0)),
        (PassiveHealthCheck(), EjectRules()),
        (PassiveHealthCheck(max_failures=2, max_ejection_percent=0), EjectRules(failures=2, percent=0)),
        (PassiveHealthCheck(interval=Duration(10**9), base_ejection_time=Duration(2 * 10**9)), EjectRules(interval_s=1.0, base_s=2.0)),
        (PassiveHealthCheck(enforcing_consecutive_5xx=0), EjectRules(enforced=0.0)),
    ],
)
def test_an_entry_says_when(said: PassiveHealthCheck | None, rules: EjectRules) -> None:
    """What it leaves open is as with Envoy."""
    assert rules == eject_rules(said)
