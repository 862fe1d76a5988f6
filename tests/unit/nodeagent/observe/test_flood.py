"""Floods of refusals in the log."""

from collections import Counter

import pytest

from nodeagent import limits
from nodeagent.errors import Reason, Side
from nodeagent.observe.flood import Flood, source_of
from tests.support.rows import denied, row

Row = type(row(1))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three lines for each of two sources."""
    monkeypatch.setattr(limits, "FLOOD_LINES", 3)
    monkeypatch.setattr(limits, "FLOOD_SOURCES", 2)


def knock(client: str = "10.0.0.1:5", *, now: float = 60.0, reason: Reason = Reason.PEER_IDENTITY, side: Side = Side.UPSTREAM) -> Row:
    """A refused handshake of nobody."""
    return row(1, source="", client=client, closed_at=now, reason=reason, side=side)


def judged(flood: Flood, *rows: Row) -> list[str]:
    """How each is judged."""
    return [flood.judge_row(each) for each in rows]


@pytest.mark.parametrize(
    ("reason", "side"),
    [(Reason.PEER_IDENTITY, Side.UPSTREAM), (Reason.LIMIT, Side.AGENT), (Reason.LOOP, Side.MESH)],
)
def test_a_source_has_so_many_lines_a_minute(reason: Reason, side: Side) -> None:
    """From whatever port; the last line is known to be the last."""
    flood = Flood()
    rows = [knock(f"10.0.0.1:{port}", reason=reason, side=side) for port in range(5)]
    assert judged(flood, *rows) == ["line", "line", "last", "none", "none"]
    assert judged(flood, knock("[fd00::1]:5"), knock("[fd00::1]:6")) == ["line", "line"]
    assert judged(flood, knock(now=119.9), knock(now=120.0)) == ["none", "line"]


def test_many_sources_share_what_is_left() -> None:
    """Their number bounds nothing that they can fill."""
    flood = Flood()
    rows = [knock(f"10.0.1.{number}:5") for number in range(100)]
    assert Counter(judged(flood, *rows)) == {"line": 4, "last": 1, "none": 95}
    assert len(flood._lines) <= limits.FLOOD_SOURCES + 1


def test_what_a_proven_caller_does_and_what_ends_well_always_has_its_line() -> None:
    """Every connection leaves one, and every denial of a service."""
    flood = Flood()
    assert judged(flood, *[denied(number) for number in range(10)]) == ["line"] * 10
    assert judged(flood, *[row(n, source="", closed_at=60.0) for n in range(10)]) == ["line"] * 10
    unknown = [knock(reason=Reason.UNIDENTIFIED, side=Side.MESH) for _ in range(10)]
    assert judged(flood, *unknown) == ["line"] * 10


@pytest.mark.parametrize(("client", "source"), [("10.0.0.1:5", "10.0.0.1"), ("[fd00::1]:5", "[fd00::1]")])
def test_the_source_is_the_address(client: str, source: str) -> None:
    assert source == source_of(knock(client))
