"""Connections as a table."""

from nodeagent.cli.connections import HEADERS, outcome, table_row
from tests.support.rows import denied, row


def test_a_row_has_a_cell_for_each_header() -> None:
    cells = table_row(row(peer="host2", permit="shop -> web (allow)"), 160.5)
    assert len(cells) == len(HEADERS)
    assert cells == [
        "0-1", "1 min", "outbound", "shop", "web", "10.77.0.1:40000", "10.77.0.2:80", "tunnel via host2", "10 B", "20 B",
        "shop -> web (allow)", "ok",
    ]  # fmt: skip


def test_who_is_not_known_is_said_to_be_unidentified() -> None:
    cells = table_row(row(source="", destination=""), 160.5)
    assert cells[3:5] == ["(unidentified)", "-"]


def test_outcomes() -> None:
    assert outcome(row(closed_at=0.0)) == "open"
    assert outcome(row()) == "ok"
    assert outcome(denied()) == "denied: no intention"
