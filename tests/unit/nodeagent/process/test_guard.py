"""Interception switched off touches nothing. What it does when it is on is tried for real in tests/e2e."""

from nodeagent.process.capture import Capture
from nodeagent.process.guard import Guard
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
