"""The form that every connection leaves behind."""

import msgspec

from nodeagent.errors import Reason, Side
from nodeagent.model.outcome import ConnectionRow


def test_a_blank_form_says_that_nothing_happened_yet() -> None:
    """What is blank when a connection ends did not happen."""
    row = ConnectionRow(id="1-1", direction="outbound", client="10.0.0.1:5", original_dst="10.0.0.2:80", opened_at=1.0)
    assert ("", "", "none", "", 0.0, Reason.OK, Side.NONE) == (
        row.source, row.destination, row.path, row.permit, row.closed_at, row.reason, row.side,
    )  # fmt: skip


def test_a_row_survives_the_channel() -> None:
    """Reasons and sides as words."""
    row = ConnectionRow(id="1-1", direction="tunnel", client="c", original_dst="d", opened_at=1.0, reason=Reason.DENIED, side=Side.MESH)
    assert row == msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=ConnectionRow)
    assert "denied" == msgspec.to_builtins(row)["reason"]
