"""When a process that ended is started again."""

import pytest

from nodeagent import limits
from nodeagent.process.restart import remember_exit, start_at


@pytest.mark.parametrize(
    ("exits", "delay_s"),
    [
        ((), 0.0),
        ((100.0,), 0.0),
        ((99.9, 100.0), 0.1),
        ((99.7, 99.8, 100.0), 0.2),
        (tuple(99.0 + n / 10 for n in range(11)), 30.0),
        ((10.0, 100.0), 0.0),
        ((10.0, 99.9, 100.0), 0.1),
        (tuple(float(n) for n in range(51, 101)), 30.0),
    ],
)
def test_the_first_exit_costs_nothing_and_each_further_one_doubles(exits: tuple[float, ...], delay_s: float) -> None:
    """0, 0.1, 0.2, … up to 30 s; a quiet minute forgets."""
    assert start_at(exits, 100.0) == pytest.approx(100.0 + delay_s)


def test_the_delay_counts_from_the_exit_and_never_leads_into_the_past() -> None:
    """Who asks late starts at once."""
    assert start_at((99.0, 100.0), 105.0) == 105.0


def test_only_exits_that_can_still_matter_are_remembered() -> None:
    """A crash loop of a week is as small as one of a minute."""
    exits: tuple[float, ...] = ()
    for number in range(1000):
        exits = remember_exit(exits, float(number))
    assert len(exits) == limits.RESTARTS_REMEMBERED
    assert start_at(exits, exits[-1]) == exits[-1] + limits.RESTART_MAX_S
    assert remember_exit((1.0, 2.0), 100.0) == (100.0,)


def test_the_first_delay_and_the_time_that_forgets() -> None:
    """An exit that comes one instant before the quiet time is over still counts."""
    quiet = limits.RESTART_RESET_S
    assert start_at((1000.0 - quiet, 1000.0), 1000.0) == 1000.0
    assert start_at((1000.1 - quiet, 1000.0), 1000.0) == 1000.0 + limits.RESTART_MIN_S
