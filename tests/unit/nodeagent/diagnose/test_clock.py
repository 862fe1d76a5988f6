"""Judgements on time, each with what makes it."""

import pytest

from nodeagent import limits
from nodeagent.diagnose.clock import judge_clock, judge_time_service
from nodeagent.diagnose.facts import Clock, TimeService
from tests.unit.nodeagent.diagnose.verdicts import only


@pytest.mark.parametrize(
    ("ahead_s", "level", "text"),
    [
        (0.4, "ok", "agrees"), (-5.4, "ok", "agrees"), (5.6, "warning", "ahead of"), (-7.0, "warning", "behind"),
        (limits.CLOCK_SKEW_S + 1, "failed", "ahead of"), (-limits.CLOCK_SKEW_S - 1, "failed", "behind"),
    ],
)  # fmt: skip
def test_a_clock(ahead_s: float, level: str, text: str) -> None:
    """What the measurement may be off by is not held against it."""
    found = only(judge_clock(Clock(ahead_s, 0.5)))
    assert found[0] == level
    assert text in found[1]


def test_a_clock_that_nobody_keeps() -> None:
    """Is to be looked at."""
    assert [only(judge_time_service(TimeService(kept)))[0] for kept in (True, False)] == ["ok", "warning"]
