"""Connections as a table."""

from click.testing import CliRunner

from nodeagent.cli.connections import HEADERS, connections, outcome, sent, table_row
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


def test_a_tunnel_is_named_where_there_is_one() -> None:
    """A call within this host, or one that went nowhere, has gone by nobody; what came in a tunnel has."""
    cells = [table_row(each, 160.5)[7] for each in (
        row(path="local", peer="host2"), denied(peer="host2"), denied(peer="host1", direction="tunnel"), row(peer="host1", direction="tunnel", path="local"),
    )]  # fmt: skip
    assert cells == ["local", "none", "none via host1", "local via host1"]


def test_what_a_refused_one_had_sent_is_not_said_to_have_gone_on() -> None:
    """It came from the client, and no further; an open one is on its way."""
    assert [sent(each) for each in (denied(), denied(sent=0), row(), row(path="none", closed_at=0.0))] == ["0 B (10 B)", "0 B", "10 B", "10 B"]


def test_what_is_open_has_not_ended() -> None:
    """Before anybody is asked."""
    told = CliRunner().invoke(connections, ["--before", "--closed"])
    assert (told.exit_code, "contradict" in told.output) == (2, True)


def test_outcomes() -> None:
    assert outcome(row(closed_at=0.0)) == "open"
    assert outcome(row()) == "ok"
    assert outcome(denied()) == "denied: no intention"
