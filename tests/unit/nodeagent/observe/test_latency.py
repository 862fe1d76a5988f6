"""A histogram that is fed with counts."""

from prometheus_client import CollectorRegistry, generate_latest

from nodeagent import limits
from nodeagent.observe.latency import Latency


def test_buckets_hold_all_that_are_shorter() -> None:
    registry = CollectorRegistry()
    latency = Latency("x_seconds", "How long.", ("source",), registry)
    counts = [0.0] * (len(limits.REQUEST_SECONDS) + 1)
    counts[1], counts[-1] = 2, 1
    latency.add(("shop",), counts, 70.0)
    latency.add(("shop",), counts, 1.0)
    page = generate_latest(registry).decode()
    for line in (
        'x_seconds_bucket{le="0.001",source="shop"} 0.0', 'x_seconds_bucket{le="0.0025",source="shop"} 4.0',
        'x_seconds_bucket{le="60.0",source="shop"} 4.0', 'x_seconds_bucket{le="+Inf",source="shop"} 6.0',
        'x_seconds_count{source="shop"} 6.0', 'x_seconds_sum{source="shop"} 71.0',
    ):  # fmt: skip
        assert line in page.splitlines(), page
