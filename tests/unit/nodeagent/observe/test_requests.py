"""Requests as workers count them."""

import pytest

from nodeagent import limits
from nodeagent.errors import Reason, Side
from nodeagent.observe.requests import RequestCounts

WAY = ("tunnel", "shop", "web", "")


def test_what_changed_is_told_once_with_its_totals() -> None:
    counts = RequestCounts("errors")
    counts.count(WAY, 200, 0.003)
    counts.count(WAY, 403, 0.0, is_denied=True)
    counts.count(WAY, 0, 100.0, retries=2)
    (tally,) = counts.take()
    assert (tally.direction, tally.source, tally.destination, tally.route) == WAY
    assert tally.statuses == [1, 0, 1, 0, 1, 0]
    assert (tally.retries, tally.denials, sum(tally.buckets), tally.buckets[-1]) == (2, 1, 3, 1)
    assert counts.take() == []
    counts.count(WAY, 200, 0.003)
    assert counts.take()[0].statuses == [1, 0, 2, 0, 1, 0]


def test_ejections_are_counted_by_way() -> None:
    counts = RequestCounts("off")
    counts.count_ejection(WAY)
    assert counts.take()[0].ejections == 1


def test_a_bucket_has_its_bound() -> None:
    counts = RequestCounts("off")
    counts.count(WAY, 200, limits.REQUEST_SECONDS[3])
    assert counts.take()[0].buckets[3] == 1


def test_what_a_bound_refused_is_counted_by_itself() -> None:
    counts = RequestCounts("off")
    counts.count(WAY, 503, 0.0, is_shed=True)
    counts.count(WAY, 503, 0.0)
    assert [tally.shed for tally in counts.take()] == [1]


def test_ways_beyond_the_limit_are_counted_together() -> None:
    counts = RequestCounts("off", limit=2)
    for number in range(5):
        counts.count(("tunnel", f"s{number}", "web", ""), 200, 0.0)
    told = {tally.source: tally.statuses[2] for tally in counts.take()}
    assert told == {"s0": 1, "s1": 1, "other": 3}
    assert RequestCounts("off")._limit == limits.METRIC_ROUTES


@pytest.mark.parametrize(
    ("wanted", "status", "reason", "side", "wants"),
    [
        ("off", 200, Reason.OK, Side.NONE, False),
        ("off", 403, Reason.DENIED, Side.MESH, True),
        ("off", 400, Reason.BAD_MESSAGE, Side.DOWNSTREAM, True),
        ("off", 502, Reason.RESET_BY_UPSTREAM, Side.UPSTREAM, False),
        ("errors", 404, Reason.OK, Side.NONE, False),
        ("errors", 500, Reason.OK, Side.NONE, True),
        ("errors", 0, Reason.RESET_BY_DOWNSTREAM, Side.DOWNSTREAM, True),
        ("all", 200, Reason.OK, Side.NONE, True),
    ],
)
def test_which_requests_get_a_row(wanted, status: int, reason: Reason, side: Side, *, wants: bool) -> None:
    """Refusals whatever the setting."""
    assert RequestCounts(wanted).wants(status, reason, side) is wants
