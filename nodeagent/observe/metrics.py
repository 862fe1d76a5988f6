"""Every metric of the agent, in one table, and the only code that touches them."""

import contextlib
from typing import Literal, NamedTuple, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nodeagent import limits
from nodeagent.decide.explain import has_passed
from nodeagent.model.names import is_service_name
from nodeagent.model.outcome import ConnectionRow, Direction
from nodeagent.observe.latency import Latency
from nodeagent.wire.frames import RequestTally, SupervisorStats, WorkerStats

OTHER = "other"
UNKNOWN = "unknown"


class Metric(NamedTuple):
    """One row of the table."""

    kind: Literal["counter", "gauge", "histogram", "latency"]
    help: str
    labels: tuple[str, ...] = ()


TABLE: dict[str, Metric] = {
    "nodeagent_build_info": Metric("gauge", "1, with the agent's version.", ("version",)),
    "nodeagent_connections_total": Metric(
        "counter", "Connections that ended.", ("direction", "source", "destination", "reason")
    ),
    "nodeagent_connection_bytes_total": Metric(
        "counter", "Bytes of connections that ended; sent is client to upstream.", ("source", "destination", "way")
    ),
    "nodeagent_connection_seconds": Metric("histogram", "Life of connections that ended.", ("direction",)),
    "nodeagent_opened_total": Metric("counter", "Connections that workers accepted.", ("direction",)),
    "nodeagent_passed_total": Metric("counter", "Connections that policy let pass.", ("source", "destination")),
    "nodeagent_requests_total": Metric(
        "counter", "Requests that ended; class is 0 where no answer came.", ("direction", "source", "destination", "route", "class")
    ),
    "nodeagent_request_seconds": Metric("latency", "How long requests took.", ("direction", "source", "destination", "route")),
    "nodeagent_request_retries_total": Metric("counter", "Requests sent once more.", ("direction", "source", "destination", "route")),
    "nodeagent_request_ejections_total": Metric("counter", "Instances that workers left alone for a while.", ("direction", "source", "destination", "route")),
    "nodeagent_request_denials_total": Metric("counter", "Requests that policy refused.", ("direction", "source", "destination", "route")),
    "nodeagent_requests_shed_total": Metric(
        "counter", "Requests refused as their caller had as much open as it may.", ("direction", "source", "destination", "route")
    ),
    "nodeagent_relayed_bytes_total": Metric("counter", "Bytes relayed, open connections included.", ("way",)),
    "nodeagent_open_connections": Metric("gauge", "Connections that are open now.", ("worker",)),
    "nodeagent_tunnels": Metric("gauge", "Tunnels that are open now.", ("worker", "side")),
    "nodeagent_tunnel_streams": Metric("gauge", "Connections in tunnels now.", ("worker", "side")),
    "nodeagent_worker_lag_seconds": Metric("gauge", "How late a worker's last timer was.", ("worker",)),
    "nodeagent_worker_buffered_bytes": Metric("gauge", "Bytes that a worker holds for streams.", ("worker",)),
    "nodeagent_worker_generation": Metric("gauge", "Snapshot that a worker decides by.", ("worker",)),
    "nodeagent_worker_restarts_total": Metric("counter", "Workers started again after they had ended."),
    "nodeagent_connections_lost_total": Metric("counter", "Connections that died with their worker, by its last figures; none has a record."),
    "nodeagent_records_dropped_total": Metric("counter", "Connection records lost because a queue was full."),
    "nodeagent_log_lines_dropped_total": Metric("counter", "Lines of the connection log lost: disk full or too slow."),
    "nodeagent_label_overflow_total": Metric("counter", "Connections counted as `other` for want of series."),
    "nodeagent_snapshot_generation": Metric("gauge", "Number of the snapshot in force."),
    "nodeagent_snapshot_compiled_timestamp_seconds": Metric("gauge", "When the snapshot in force was compiled."),
    "nodeagent_snapshot_age_seconds": Metric("gauge", "Since the catalog last confirmed what is in force."),
    "nodeagent_catalog_connected": Metric("gauge", "1 while the catalog answers."),
    "nodeagent_catalog_answers_total": Metric("counter", "Answers of the catalog to watches.", ("outcome",)),
    "nodeagent_held_back": Metric("gauge", "Answers of the catalog that are held back as suspicious."),
    "nodeagent_svid_expiry_timestamp_seconds": Metric("gauge", "When a certificate ends.", ("service",)),
    "nodeagent_trusted_roots": Metric("gauge", "Roots that are believed; more than one while one replaces another."),
    "nodeagent_root_expiry_timestamp_seconds": Metric("gauge", "When the first of the roots that are believed ends."),
    "nodeagent_revoked_tokens": Metric("gauge", "Tokens whose certificates are refused."),
    "nodeagent_svid_requests_total": Metric("counter", "Requests to the CA.", ("outcome",)),
    "nodeagent_interception_active": Metric("gauge", "1 while the kernel's rules are as planned."),
    "nodeagent_interception_repairs_total": Metric("counter", "Times that rules were put back."),
    "nodeagent_bypassed_total": Metric("counter", "Connections that went around the agent while it was dead."),
}

_Child = Counter | Gauge | Histogram | Latency
_KINDS: dict[str, type[_Child]] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram, "latency": Latency}
_BUCKETS = len(limits.REQUEST_SECONDS) + 1
_CLASSES = ("0", "1xx", "2xx", "3xx", "4xx", "5xx")


class Metrics:
    """The agent's metrics. Owned by control; workers send figures, never series."""

    def __init__(self, version: str, pairs: int = limits.METRIC_PAIRS) -> None:
        self._registry = CollectorRegistry()
        self._all = {
            name: _KINDS[row.kind](name, row.help, row.labels, registry=self._registry) for name, row in TABLE.items()
        }
        self._pairs: set[tuple[str, str]] = set()
        self._pairs_max = pairs
        self._routes: set[tuple[str, str, str]] = set()
        self._totals: dict[tuple[str, int], dict[tuple[str, ...], float]] = {}
        self._gone: set[tuple[str, int]] = set()
        self.set("nodeagent_build_info", 1, version)

    def render(self) -> bytes:
        """All series in Prometheus' text form."""
        return generate_latest(self._registry)

    def set(self, name: str, value: float, *labels: str) -> None:
        """A gauge's value."""
        metric = self._all[name]
        assert isinstance(metric, Gauge)
        (metric.labels(*labels) if labels else metric).set(value)

    def add(self, name: str, value: float, *labels: str) -> None:
        """Adds to a counter."""
        metric = self._all[name]
        assert isinstance(metric, Counter)
        (metric.labels(*labels) if labels else metric).inc(value)

    def drop(self, name: str, *labels: str) -> None:
        """Forgets a series that stands for something that is gone."""
        metric = self._all[name]
        assert isinstance(metric, Gauge)
        with contextlib.suppress(KeyError):
            metric.remove(*labels)

    def count_closed(self, row: ConnectionRow) -> None:
        """Counts a connection that ended."""
        source, destination = self._pair(row.source or UNKNOWN, row.destination or UNKNOWN)
        self.add("nodeagent_connections_total", 1, row.direction, source, destination, row.reason)
        sent = row.sent if has_passed(row) else 0  # what a refused one had sent went nowhere
        self.add("nodeagent_connection_bytes_total", sent, source, destination, "sent")
        self.add("nodeagent_connection_bytes_total", row.received, source, destination, "received")
        seconds = self._all["nodeagent_connection_seconds"]
        assert isinstance(seconds, Histogram)
        seconds.labels(row.direction).observe(max(row.closed_at - row.opened_at, 0.0))

    def set_worker(self, number: int, pid: int, stats: WorkerStats) -> None:
        """Takes a worker's figures of this second; its totals count from its own start.

        Number and pid are the supervisor's word. What the worker says of itself names no series.
        """
        worker = str(number)
        key = (worker, pid)
        if key not in self._totals:
            self._forget_gone(worker)
        self._gone.discard(key)
        self.set("nodeagent_open_connections", stats.connections, worker)
        self.set("nodeagent_worker_lag_seconds", stats.lag_s, worker)
        self.set("nodeagent_worker_buffered_bytes", stats.buffered, worker)
        self.set("nodeagent_worker_generation", stats.generation, worker)
        for side in ("client", "server"):
            streams = [tunnel.streams for tunnel in stats.tunnels if tunnel.side == side]
            self.set("nodeagent_tunnels", len(streams), worker, side)
            self.set("nodeagent_tunnel_streams", sum(streams), worker, side)
        for source, destination, total in stats.passed:
            self._rise(key, ("nodeagent_passed_total", *self._pair(source or UNKNOWN, destination or UNKNOWN)), total)
        for tally in stats.requests:
            self._set_requests(key, tally)
        for direction in get_args(Direction):
            if direction in stats.opened:
                self._rise(key, ("nodeagent_opened_total", direction), stats.opened[direction])
        self._rise(key, ("nodeagent_relayed_bytes_total", "sent"), stats.sent)
        self._rise(key, ("nodeagent_relayed_bytes_total", "received"), stats.received)

    def forget_worker(self, number: int, pid: int) -> None:
        """A worker is gone, or its channel: its gauges end, what it counted stays, and it may come back with its totals."""
        worker = str(number)
        if (worker, pid) not in self._totals:
            return
        self._gone.add((worker, pid))
        if any(name == worker for name, _ in self._totals.keys() - self._gone):
            return
        for name in ("open_connections", "worker_lag_seconds", "worker_buffered_bytes", "worker_generation"):
            self.drop(f"nodeagent_{name}", worker)
        for side in ("client", "server"):
            self.drop("nodeagent_tunnels", worker, side)
            self.drop("nodeagent_tunnel_streams", worker, side)

    def _forget_gone(self, worker: str) -> None:
        """A new process of this number: those that went before it do not come back."""
        for key in [key for key in self._gone if key[0] == worker]:
            self._gone.remove(key)
            del self._totals[key]

    def set_supervisor(self, stats: SupervisorStats) -> None:
        """Takes the supervisor's figures of this second."""
        key = ("supervisor", stats.pid)
        self.set("nodeagent_interception_active", stats.interception in ("active", "repaired"))
        self._rise(key, ("nodeagent_interception_repairs_total",), stats.repairs)
        self._rise(key, ("nodeagent_bypassed_total",), stats.bypassed)
        self._rise(key, ("nodeagent_worker_restarts_total",), sum(w.restarts for w in stats.workers))

    def _set_requests(self, key: tuple[str, int], tally: RequestTally) -> None:
        """A worker's totals of the requests that went one way. Also the class of a status is the worker's word."""
        way = (tally.direction if tally.direction in get_args(Direction) else OTHER, *self._route(tally))
        for name, count in zip(_CLASSES, tally.statuses, strict=False):
            if count:
                self._rise(key, ("nodeagent_requests_total", *way, name), count)
        self._rise(key, ("nodeagent_request_retries_total", *way), tally.retries)
        self._rise(key, ("nodeagent_request_denials_total", *way), tally.denials)
        self._rise(key, ("nodeagent_request_ejections_total", *way), tally.ejections)
        self._rise(key, ("nodeagent_requests_shed_total", *way), tally.shed)
        counts = [self._grown(key, ("bucket", str(place), *way), count) for place, count in enumerate(tally.buckets[: _BUCKETS])]
        latency = self._all["nodeagent_request_seconds"]
        assert isinstance(latency, Latency)
        latency.add(way, counts, self._grown(key, ("seconds", *way), tally.seconds))

    def _route(self, tally: RequestTally) -> tuple[str, str, str]:
        """The labels for services and route, as long as there is room for another one."""
        pair = self._pair(tally.source or UNKNOWN, tally.destination or UNKNOWN)
        route = (*pair, tally.route if pair != (OTHER, OTHER) and len(tally.route) <= limits.ROUTE_LABEL_CHARS else "")
        if route in self._routes:
            return route
        if len(self._routes) >= limits.METRIC_ROUTES:
            self.add("nodeagent_label_overflow_total", 1)
            return OTHER, OTHER, OTHER
        self._routes.add(route)
        return route

    def _grown(self, key: tuple[str, int], series: tuple[str, ...], total: float) -> float:
        """By how much a process's own total grew since it was last told."""
        seen = self._totals.setdefault(key, {})
        before = seen.get(series, 0)
        seen[series] = max(total, before)
        return max(total - before, 0)

    def _rise(self, key: tuple[str, int], series: tuple[str, ...], total: float) -> None:
        """Adds what a process's own total grew by since it was last told."""
        name, *labels = series
        self.add(name, self._grown(key, series, total), *labels)

    def _pair(self, source: str, destination: str) -> tuple[str, str]:
        """The labels for the two services: their names, if they can be names, as long as there is room for another pair."""
        pair = (source, destination)
        if not (is_service_name(source) and is_service_name(destination)):
            pair = (OTHER, OTHER)
        if pair in self._pairs:
            return pair
        if len(self._pairs) >= self._pairs_max:
            self.add("nodeagent_label_overflow_total", 1)
            return OTHER, OTHER
        self._pairs.add(pair)
        return pair
