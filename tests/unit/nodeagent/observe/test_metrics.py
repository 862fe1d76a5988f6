"""Metrics: declared in one table, bounded in number, totals that survive a worker."""

import re

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from nodeagent import limits
from nodeagent.observe.metrics import TABLE, Metrics
from nodeagent.wire.frames import RequestTally, SupervisorStats, TunnelRow, WorkerFacts, WorkerStats
from tests.support.rows import denied, row


def series(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    samples = [sample for family in families for sample in family.samples if sample.name in TABLE]
    return {(s.name, tuple(s.labels[label] for label in TABLE[s.name].labels)): s.value for s in samples}


def stats(pid: int, opened: int, sent: int = 0) -> WorkerStats:
    tunnels = [TunnelRow("shop", "web", "host2", "client", 3, 0.0)]
    return WorkerStats(pid, 7, 4, {"outbound": opened}, sent, 0, tunnels, 0.01, 99)


def test_names_and_labels_follow_the_conventions() -> None:
    for name, metric in TABLE.items():
        assert re.fullmatch(r"nodeagent_[a-z_]+", name)
        assert (metric.kind == "counter") == name.endswith("_total")
        assert metric.help.endswith(".")


def test_a_closed_connection_is_counted_once_with_its_reason() -> None:
    """What a refused one had sent was relayed to nobody."""
    metrics = Metrics("1")
    metrics.count_closed(row())
    metrics.count_closed(denied(received=0))
    found = series(metrics)
    assert found["nodeagent_connections_total", ("outbound", "shop", "web", "ok")] == 1
    assert found["nodeagent_connections_total", ("outbound", "shop", "web", "denied")] == 1
    assert found["nodeagent_connection_bytes_total", ("shop", "web", "sent")] == 10
    assert found["nodeagent_connection_bytes_total", ("shop", "web", "received")] == 20


def test_names_beyond_the_cap_become_other_and_are_counted() -> None:
    metrics = Metrics("1", pairs=2)
    for number in range(50):
        metrics.count_closed(row(source=f"s{number}"))
    found = series(metrics)
    totals = [key for key in found if key[0] == "nodeagent_connections_total"]
    assert len(totals) == 3
    assert found["nodeagent_connections_total", ("outbound", "other", "other", "ok")] == 48
    assert found["nodeagent_label_overflow_total", ()] == 48


def test_totals_go_on_when_a_worker_is_replaced() -> None:
    metrics = Metrics("1")
    metrics.set_worker(0, 100, stats(100, 5, 50))
    metrics.set_worker(0, 100, stats(100, 8, 50))
    metrics.forget_worker(0, 100)
    metrics.set_worker(0, 200, stats(200, 2, 1))
    found = series(metrics)
    assert found["nodeagent_opened_total", ("outbound",)] == 10
    assert found["nodeagent_relayed_bytes_total", ("sent",)] == 51


def test_gauges_of_a_worker_that_is_gone_are_gone() -> None:
    metrics = Metrics("1")
    metrics.set_worker(0, 100, stats(100, 1))
    assert series(metrics)["nodeagent_tunnels", ("0", "client")] == 1
    metrics.forget_worker(0, 100)
    assert not [key for key in series(metrics) if key[1][:1] == ("0",)]


def test_gauges_stay_while_the_worker_of_that_number_drains_beside_its_successor() -> None:
    metrics = Metrics("1")
    metrics.set_worker(0, 100, stats(100, 1))
    metrics.set_worker(0, 200, stats(200, 1))
    metrics.forget_worker(0, 100)
    assert series(metrics)["nodeagent_open_connections", ("0",)] == 4


def test_supervisor_figures_are_taken_as_totals() -> None:
    metrics = Metrics("1")
    for repairs, restarts in ((1, 0), (3, 2), (3, 2)):
        facts = [WorkerFacts(0, 10, 0.0, restarts, "serving")]
        metrics.set_supervisor(SupervisorStats(1, "1", 0.0, "active", "", repairs, 0, facts))
    found = series(metrics)
    assert found["nodeagent_interception_active", ()] == 1
    assert found["nodeagent_interception_repairs_total", ()] == 3
    assert found["nodeagent_worker_restarts_total", ()] == 2


def test_a_worker_that_lost_its_channel_is_not_counted_twice() -> None:
    metrics = Metrics("1")
    metrics.set_worker(0, 100, stats(100, 5, 50))
    metrics.forget_worker(0, 100)
    metrics.set_worker(0, 100, stats(100, 6, 50))
    found = series(metrics)
    assert found["nodeagent_opened_total", ("outbound",)] == 6
    assert found["nodeagent_relayed_bytes_total", ("sent",)] == 50
    assert found["nodeagent_open_connections", ("0",)] == 4


def test_what_a_worker_says_of_itself_makes_no_series_and_fills_no_table() -> None:
    metrics = Metrics("1")
    metrics.set_worker(0, 100, stats(100, 1))
    before = set(series(metrics))
    for number in range(50):
        said = stats(1000 + number, 1)
        said.opened[f"direction-{number}"] = 1
        metrics.set_worker(0, 100, said)
    assert set(series(metrics)) == before
    assert len(metrics._totals) == 1


def test_workers_that_went_are_forgotten_when_their_successor_is_heard() -> None:
    metrics = Metrics("1")
    for pid in range(100, 150):
        metrics.set_worker(0, pid, stats(pid, 1))
        metrics.forget_worker(0, pid)
    assert len(metrics._totals) == 1
    assert series(metrics)["nodeagent_opened_total", ("outbound",)] == 50


def test_pairs_are_capped_by_default() -> None:
    """A mesh of any size makes so many series."""
    metrics = Metrics("1")
    for number in range(limits.METRIC_PAIRS + 1):
        metrics.count_closed(row(source=f"s{number}"))
    assert series(metrics)["nodeagent_label_overflow_total", ()] == 1


def tally(source: str = "shop", route: str = "", *, count: int = 3) -> RequestTally:
    return RequestTally("tunnel", source, "web", route, [0, 0, count, 0, 1, 0], [count, 1] + [0] * (len(limits.REQUEST_SECONDS) - 1), 0.5, 2, 1, shed=3)


def with_requests(*tallies: RequestTally) -> WorkerStats:
    return msgspec.structs.replace(stats(100, 1), requests=list(tallies))


def test_requests_are_counted_by_way_and_class_over_all_workers() -> None:
    """Totals of workers, added up; a histogram of how long they took."""
    metrics = Metrics("1")
    metrics.set_worker(0, 100, with_requests(tally(route="Routes[0]")))
    metrics.set_worker(0, 100, with_requests(tally(route="Routes[0]", count=5)))
    metrics.set_worker(1, 101, with_requests(tally(route="Routes[0]")))
    found, way = series(metrics), ("tunnel", "shop", "web", "Routes[0]")
    assert found["nodeagent_requests_total", (*way, "2xx")] == 8
    assert found["nodeagent_requests_total", (*way, "4xx")] == 2
    assert found["nodeagent_request_retries_total", way] == 4
    assert found["nodeagent_request_denials_total", way] == 2
    assert found["nodeagent_request_ejections_total", way] == 0
    assert found["nodeagent_requests_shed_total", way] == 6
    page = metrics.render().decode()
    assert 'nodeagent_request_seconds_count{destination="web",direction="tunnel",route="Routes[0]",source="shop"} 10.0' in page
    assert 'nodeagent_request_seconds_sum{destination="web",direction="tunnel",route="Routes[0]",source="shop"} 1.0' in page


def test_ways_of_requests_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number, and the name of a route by length: it comes from an entry."""
    monkeypatch.setattr(limits, "METRIC_ROUTES", 2)
    metrics = Metrics("1")
    ways = [tally(f"s{number}") for number in range(4)] + [tally("s0", "x" * (limits.ROUTE_LABEL_CHARS + 1))]
    metrics.set_worker(0, 100, with_requests(*ways))
    found = series(metrics)
    totals = {key[1][1:4]: value for key, value in found.items() if key[0] == "nodeagent_requests_total" and key[1][4] == "2xx"}
    assert totals == {("s0", "web", ""): 3, ("s1", "web", ""): 3, ("other", "other", "other"): 3}  # the highest of them
    assert found["nodeagent_label_overflow_total", ()] == 2
