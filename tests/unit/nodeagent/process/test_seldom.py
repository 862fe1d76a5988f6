"""Complaints that do not fill the log."""

from nodeagent import limits
from nodeagent.process.seldom import Seldom


def test_a_complaint_is_due_at_once_and_then_once_in_a_while() -> None:
    """However often it is asked."""
    now = 5.0
    seldom = Seldom(lambda: now)
    assert [seldom.is_due() for _ in range(3)] == [True, False, False]
    now += limits.COMPLAIN_S
    assert [seldom.is_due() for _ in range(3)] == [True, False, False]
