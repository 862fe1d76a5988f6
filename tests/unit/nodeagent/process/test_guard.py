"""Interception switched off touches nothing. What it does when it is on is tried for real in tests/e2e."""

import pytest

from nodeagent import limits
from nodeagent.process.capture import Capture
from nodeagent.process.guard import Guard, checks_per_look
from nodeagent.process.units import StampedUnit


def test_switched_off_it_says_so_and_takes_everything() -> None:
    """No table, no netlink, no failure; units count as loaded, so that nobody tries again and again."""
    guard = Guard(None)
    guard.install("system.slice/nodeagent.service")
    guard.capture(Capture(("10.0.0.1",), (80,), ("port 22",)))
    guard.beat()
    guard.stop_beat()
    guard.check()
    assert guard.load_units("", [StampedUnit("a.service", 1, "a.service")])
    guard.close()
    assert (guard.condition, guard.detail, guard.repairs) == ("off", "intercept.enabled is false", 0)
    guard.capture(Capture(overflow="1 ports beyond the limit of 1"))
    assert guard.condition == "off"


@pytest.mark.parametrize(("addresses", "checks"), [(0, 1), (19_999, 1), (20_000, 2), (limits.CAPTURE_ADDRESSES, 11)])
def test_the_more_addresses_the_rarer_they_are_looked_at(addresses: int, checks: int) -> None:
    """What it costs stays the same, and yet every set is looked at within a minute."""
    assert checks_per_look(addresses) == checks
    assert checks * limits.DRIFT_S <= 60
