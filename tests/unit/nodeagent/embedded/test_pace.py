"""The pace of writes: a burst goes through, then so many a second, for each token alone."""

import pytest

from nodeagent import limits
from nodeagent.embedded.pace import Pace
from nodeagent.embedded.refusal import TooMany


@pytest.fixture
def pace(monkeypatch):
    monkeypatch.setattr(limits, "CATALOG_WRITES_PER_S", 10.0)
    monkeypatch.setattr(limits, "CATALOG_WRITES_BURST", 5)
    return Pace()


def taken(pace, accessor, now_s, tries=20):
    count = 0
    for _ in range(tries):
        try:
            pace.take(accessor, now_s)
        except TooMany:
            continue
        count += 1
    return count


def test_a_burst_then_the_rate(pace):
    assert taken(pace, "a", 100.0) == 5
    assert taken(pace, "a", 100.0) == 0
    assert taken(pace, "a", 100.21) == 2
    assert taken(pace, "a", 200.0) == 5


def test_a_refusal_costs_nothing_and_says_the_rate(pace):
    taken(pace, "a", 0.0, 1000)
    with pytest.raises(TooMany, match="at most 10 changes a second"):
        pace.take("a", 0.0)
    pace.take("a", 0.11)


def test_one_token_does_not_slow_another(pace):
    taken(pace, "a", 0.0)
    assert taken(pace, "b", 0.0) == 5


def test_full_buckets_are_forgotten(pace):
    for number in range(100):
        pace.take(str(number), 0.0)
    pace.take("last", 1.0)
    assert list(pace._full_at) == ["last"]
