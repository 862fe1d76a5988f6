"""What becomes of connections that have ended: counted, remembered, and written down where the operator wants them."""

from collections.abc import Callable
from datetime import UTC, datetime

from nodeagent.control.flows import FlowBook
from nodeagent.model.outcome import ConnectionRow, RequestRow
from nodeagent.observe.flood import Flood, source_of
from nodeagent.observe.log import open_log
from nodeagent.observe.metrics import Metrics
from nodeagent.observe.record import (
    ClosedRing,
    is_refusal,
    is_request_refusal,
    log_fields,
    log_line,
    request_fields,
    request_line,
)
from nodeagent.observe.sink import Sink
from nodeagent.wire.frames import Records

_COUNTED = "nodeagent_connections_total"
_COUNTED_REQUESTS = "nodeagent_requests_total"
_DROPPED = "nodeagent_log_lines_dropped_total"

_log = open_log()


class Ledger:
    """Owned by control. Refusals go to the journal as well: they are what somebody looks for."""

    def __init__(
        self, metrics: Metrics, flows: FlowBook, sink: Sink | None, now: Callable[[], float], *, is_journal: bool = False
    ) -> None:
        """sink: of the connection log; None: there is none. is_journal: it ends where the journal does: nothing is written twice."""
        self.closed = ClosedRing()
        self.dropped = 0
        """Records that workers could not send."""
        self._metrics = metrics
        self._flows = flows
        self._sink = sink
        self._now = now
        self._is_journal = is_journal
        self._lost_lines = 0
        self._flood = Flood()

    @property
    def complaint(self) -> str:
        """What is wrong with the connection log; empty while nothing is."""
        if self._sink is None or not self._sink.dropped:
            return ""
        why = self._sink.error or "it is not written as fast as connections end"
        return f"{self._sink.dropped} lines of the connection log are lost: {why}"

    @property
    def unsaved(self) -> str:
        """What is wrong with the file of who called whom; empty while nothing is."""
        return self._flows.complaint

    def take(self, records: Records) -> None:
        """A worker's report."""
        at = datetime.fromtimestamp(self._now(), tz=UTC).isoformat().replace("+00:00", "Z")
        for row in records.rows:
            self._metrics.count_closed(row)
            verdict = self._flood.judge_row(row)
            if verdict != "none":
                self._write(row, at)
            if verdict == "last":
                _log.warning("refusals_unlogged", source=source_of(row), until="the minute is over", counted=_COUNTED)
        for request in records.requests:
            self._take_request(request, at)
        self.closed.extend(records.rows)
        self._flows.extend(records.rows)
        self._count_dropped(records.dropped)

    def count_lost_lines(self) -> None:
        """Has the metric say what the connection log has lost until now: the thread that writes it loses lines later than it gets them."""
        lost = self._sink.dropped if self._sink else 0
        self._metrics.add(_DROPPED, lost - self._lost_lines)
        self._lost_lines = lost

    def _write(self, row: ConnectionRow, at: str) -> None:
        if is_refusal(row):
            _log.warning("connection_closed", **log_fields(row))
        if self._sink and not (self._is_journal and is_refusal(row)):
            self._sink.write(log_line(row, at))

    def _take_request(self, row: RequestRow, at: str) -> None:
        """Refusals go to the journal: a client that is refused again and again fills no disk."""
        if not is_request_refusal(row):
            if self._sink:
                self._sink.write(request_line(row, at))
            return
        verdict = self._flood.judge(f"requests of {row.source}", self._now())
        if verdict != "none":
            _log.warning("request_ended", **request_fields(row))
        if verdict == "last":
            _log.warning("refusals_unlogged", source=row.source, until="the minute is over", counted=_COUNTED_REQUESTS)
        if self._sink and not self._is_journal and verdict != "none":
            self._sink.write(request_line(row, at))

    def _count_dropped(self, dropped: int) -> None:
        if dropped:
            self.dropped += dropped
            self._metrics.add("nodeagent_records_dropped_total", dropped)
            _log.warning("records_dropped", number=dropped)
