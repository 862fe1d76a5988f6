"""Rows as log lines, and the bounded places where they wait."""

import pytest

from nodeagent import limits
from nodeagent.errors import Reason, Side
from nodeagent.observe.record import (
    ClosedRing,
    RecordQueue,
    concerns,
    is_refusal,
    is_request_refusal,
    log_fields,
    request_fields,
)
from nodeagent.wire.frames import Records
from tests.support.rows import denied, forbidden, request, row


def test_log_line_has_what_is_known_and_nothing_blank() -> None:
    fields = log_fields(row())
    known = {"source": "shop", "destination": "web", "reason": "ok", "side": "none", "seconds": 0.5, "sent": 10}
    assert known.items() <= fields.items()
    assert "peer" not in fields
    assert "uid" not in fields
    assert "is_read" not in fields
    assert log_fields(row(is_read=True))["is_read"] is True
    assert "opened_at" not in fields


def test_unidentified_caller_is_an_empty_source_in_the_log() -> None:
    assert log_fields(row(source=""))["source"] == ""


@pytest.mark.parametrize(
    ("reason", "side", "expected"),
    [
        (Reason.OK, Side.NONE, False),
        (Reason.DENIED, Side.MESH, True),
        (Reason.LIMIT, Side.AGENT, True),
        (Reason.DRAINED, Side.AGENT, False),
        (Reason.UPSTREAM_REFUSED, Side.UPSTREAM, False),
        (Reason.PEER_IDENTITY, Side.UPSTREAM, True),
    ],
)
def test_refusals_are_those_of_mesh_and_agent_and_peers_without_identity(reason: Reason, side: Side, *, expected: bool) -> None:
    assert expected == is_refusal(row(reason=reason, side=side))


def test_a_row_concerns_both_its_services() -> None:
    assert concerns(row(), "shop")
    assert concerns(row(), "web")
    assert concerns(row(), "")
    assert not concerns(row(), "sho")


def test_queue_gives_rows_in_order_and_in_batches() -> None:
    queue = RecordQueue(limit=10, batch=2)
    for number in range(3):
        queue.append(row(number))
    taken = [queue.take(), queue.take(), queue.take()]
    assert [[r.id for r in records.rows] for records in taken[:2] if records] == [["0-0", "0-1"], ["0-2"]]
    assert taken[2] is None


def test_a_full_queue_drops_and_counts_the_new() -> None:
    queue = RecordQueue(limit=2, batch=10)
    for number in range(5):
        queue.append(row(number))
    records = queue.take()
    assert records is not None
    assert ([r.id for r in records.rows], records.dropped) == (["0-0", "0-1"], 3)
    queue.append(row(9))
    again = queue.take()
    assert again is not None
    assert again.dropped == 0


def test_ring_keeps_the_newest_and_counts_all_it_has() -> None:
    ring = ClosedRing(size=3)
    ring.extend([row(1), denied(2), row(3), row(4, source="cart")])
    assert [r.id for r in ring.newest(10)[0]] == ["0-4", "0-3", "0-2"]
    rows, total = ring.newest(1, "shop")
    assert ([r.id for r in rows], total) == (["0-3"], 2)


def test_a_worker_and_control_keep_so_many_and_no_more() -> None:
    """The limits as they are: a log never stops traffic, nor fills memory."""
    queue, ring, same = RecordQueue(), ClosedRing(), row()
    for _ in range(limits.RECORDS_QUEUED + 1):
        queue.append(same)
    assert len(queue) == limits.RECORDS_QUEUED
    records = queue.take()
    assert records is not None
    assert (len(records.rows), records.dropped) == (limits.RECORDS_PER_BATCH, 1)
    ring.extend([same] * (limits.CLOSED_KEPT + 1))
    assert ring.newest(limits.API_ROWS_MAX)[1] == limits.CLOSED_KEPT


def test_rows_that_were_taken_and_lost_are_counted_as_dropped() -> None:
    """Control had not read them when it ended."""
    queue = RecordQueue()
    queue.lose(7)
    assert queue.take() == Records([], 7)


def test_a_request_s_line_has_what_is_known() -> None:
    """Status and time always: 0 is an answer that did not come."""
    fields = request_fields(request(status=0, milliseconds=0.0))
    assert {"id": "r-1", "method": "GET", "path": "/a", "status": 0, "milliseconds": 0.0, "reason": "ok"}.items() <= fields.items()
    assert {"began_at", "retries", "permit", "route"}.isdisjoint(fields)


def test_refusals_of_requests_are_told_from_failures() -> None:
    assert is_request_refusal(forbidden())
    assert is_request_refusal(request(reason=Reason.BAD_MESSAGE, side=Side.DOWNSTREAM))
    assert not is_request_refusal(request(reason=Reason.RESET_BY_UPSTREAM, side=Side.UPSTREAM))


def test_rows_of_requests_wait_with_the_others_and_are_bounded_alike() -> None:
    queue = RecordQueue(limit=2, batch=1)
    for number in range(3):
        queue.append_request(request(number))
    queue.append(row())
    assert len(queue) == 3
    records = queue.take()
    assert records is not None
    assert ([each.id for each in records.requests], len(records.rows), records.dropped) == (["r-0"], 1, 1)
    assert len(queue) == 1
