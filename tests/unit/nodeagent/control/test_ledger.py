"""What becomes of connections that have ended."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from nodeagent import limits
from nodeagent.control.flows import FlowBook
from nodeagent.control.ledger import Ledger
from nodeagent.observe.log import configure_log
from nodeagent.observe.metrics import Metrics
from nodeagent.observe.sink import Sink
from nodeagent.wire.frames import Records
from tests.support.rows import denied, forbidden, request, row

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def journal() -> Iterator[Lines]:
    """The lines on standard error so far."""
    stream = io.BytesIO()
    configure_log("control", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


def ledger(tmp_path: Path, sink: Sink | None, metrics: Metrics, *, is_journal: bool = False) -> Ledger:
    now: Callable[[], float] = lambda: 200.0  # noqa: E731 - a clock that stands still
    return Ledger(metrics, FlowBook(tmp_path / "flows", now), sink, now, is_journal=is_journal)


def ids(lines: list[dict[str, Any]]) -> list[str]:
    return [line["id"] for line in lines if line["event"] == "connection_closed"]


def test_a_file_gets_every_connection_and_the_journal_the_refusals(tmp_path: Path, journal: Lines) -> None:
    """One line each, of one form; both are counted and remembered."""
    metrics, path = Metrics("1"), tmp_path / "connections.log"
    with Sink(path) as sink:
        book = ledger(tmp_path, sink, metrics)
        book.take(Records([row(1), denied(2)]))
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert ids(written) == ["0-1", "0-2"]
    assert (written[0]["at"], written[0]["process"]) == ("1970-01-01T00:03:20Z", "control")
    assert ids(journal()) == ["0-2"]
    assert set(journal()[0]) == set(written[1])
    assert [each.id for each in book.closed.newest(10)[0]] == ["0-2", "0-1"]
    assert b'reason="denied",source="shop"} 1.0' in metrics.render()
    assert book.complaint == ""


def test_flows_that_cannot_be_saved_are_known(tmp_path: Path) -> None:
    """For `status`."""
    flows = FlowBook(tmp_path / "none" / "flows", float)
    flows._write(b"x")
    assert Ledger(Metrics("1"), flows, None, float).unsaved == flows.complaint != ""


def test_where_both_end_in_the_journal_nothing_is_written_twice(tmp_path: Path, journal: Lines) -> None:
    """Standard output and standard error of a service go to one place."""
    path = tmp_path / "stdout"
    with Sink(path) as sink:
        ledger(tmp_path, sink, Metrics("1"), is_journal=True).take(Records([row(1), denied(2)]))
    assert ids([json.loads(line) for line in path.read_text().splitlines()]) == ["0-1"]
    assert ids(journal()) == ["0-2"]


def test_without_a_connection_log_refusals_are_in_the_journal_still(tmp_path: Path, journal: Lines) -> None:
    """And what workers lost is said."""
    metrics = Metrics("1")
    book = ledger(tmp_path, None, metrics)
    book.take(Records([row(1), denied(2)], dropped=3))
    assert ids(journal()) == ["0-2"]
    assert book.dropped == 3
    assert b"nodeagent_records_dropped_total 3.0" in metrics.render()


def test_a_log_that_cannot_be_written_is_counted_and_named(tmp_path: Path, journal: Lines) -> None:
    """The disk is full, or nobody may write there."""
    metrics, sink = Metrics("1"), Sink(tmp_path / "missing" / "connections.log")
    book = ledger(tmp_path, sink, metrics)
    book.take(Records([row(1)]))
    sink.close()
    book.count_lost_lines()
    book.count_lost_lines()
    assert book.complaint.startswith("1 lines of the connection log are lost: [Errno 2]")
    assert b"nodeagent_log_lines_dropped_total 1.0" in metrics.render()
    assert journal() == []


def test_a_flood_of_nobody_s_refusals_ends_in_one_line_that_says_so(
    tmp_path: Path, journal: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both logs; the figures count on, and who is known has every line."""
    monkeypatch.setattr(limits, "FLOOD_LINES", 2)
    metrics, path = Metrics("1"), tmp_path / "connections.log"
    with Sink(path) as sink:
        ledger(tmp_path, sink, metrics).take(Records([*(denied(number, source="") for number in range(5)), row(9)]))
    assert ids([json.loads(line) for line in path.read_text().splitlines()]) == ["0-0", "0-1", "0-9"]
    assert [line["event"] for line in journal()] == ["connection_closed", "connection_closed", "refusals_unlogged"]
    assert journal()[2]["source"] == "10.77.0.1"
    assert b"} 5.0" in metrics.render()


def test_requests_get_lines_as_connections_do(tmp_path: Path, journal: Lines) -> None:
    """Refusals go to the journal, too, but no flood of one caller's."""
    path = tmp_path / "connections.log"
    with Sink(path) as sink:
        book = ledger(tmp_path, sink, Metrics("1"))
        book.take(Records([], 0, [request(1), forbidden(2)]))
        book.take(Records([], 0, [forbidden(number) for number in range(3, 3 + limits.FLOOD_LINES)]))
        book.take(Records([], 0, [request(999)]))
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["id"] for line in written[:2]] == ["r-1", "r-2"]
    assert written[-1]["id"] == "r-999"
    assert len(written) == limits.FLOOD_LINES + 2
    assert {line["event"] for line in written} == {"request_ended"}
    assert "began_at" not in written[0]
    told = [line["event"] for line in journal()]
    assert told == ["request_ended"] * limits.FLOOD_LINES + ["refusals_unlogged"]
    assert journal()[0]["id"] == "r-2"
