"""Who called whom, remembered."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from nodeagent import limits
from nodeagent.control.flows import FlowBook, flow_of
from nodeagent.model.flow import Flow
from tests.support.loop import run, until
from tests.support.rows import denied, row

SHOP_WEB = Flow("outbound", "shop", "web", "10.77.0.2:80")


def book(tmp_path: Path, now: float = 200.0, most: int = 10) -> FlowBook:
    return FlowBook(tmp_path / "flows", lambda: now, most)


def test_alike_connections_are_counted_together(tmp_path: Path) -> None:
    """How often, first and last."""
    flows = book(tmp_path)
    flows.extend([row(1), row(2, client="10.77.0.1:40001", opened_at=150.0), row(3, opened_at=120.0)])
    ((flow, count),) = flows.counts().items()
    assert flow == SHOP_WEB
    assert (count.times, count.first_at, count.last_at) == (3, 100.0, 150.0)


@pytest.mark.parametrize(
    "facts",
    [{"path": "none"}, {"destination": ""}, {"client": "nobody"}, {"original_dst": "10.77.0.2"}, {"destination": "a\nb"}, {"source": "A B"}],
)
def test_what_was_refused_or_makes_no_sense_is_no_flow(facts: dict[str, str]) -> None:
    """A worker may have been taken over: what it writes must not end control."""
    assert flow_of(row(**facts)) is None
    assert flow_of(denied()) is None


def test_who_cannot_be_named_is_kept_apart_by_what_is_known() -> None:
    """The unit and uid of an unidentified caller; the address from which clear text came."""
    nobody = flow_of(row(source="", unit="cron.service", uid=7))
    assert nobody is not None
    assert (nobody.unit, nobody.uid, nobody.client) == ("cron.service", 7, "")
    plain = flow_of(row(source="", direction="plaintext", path="local"))
    assert plain is not None
    assert plain.client == "10.77.0.1"
    named = flow_of(row(unit="shop.service", uid=7))
    assert named is not None
    assert (named.unit, named.uid) == ("", msgspec.UNSET)


def test_when_it_is_full_the_one_seen_longest_ago_goes(tmp_path: Path) -> None:
    """Not the one that was seen first."""
    flows = book(tmp_path, most=2)
    flows.extend([row(source="a"), row(source="b"), row(source="a"), row(source="c")])
    assert [flow.source for flow in flows.counts()] == ["a", "c"]


def test_many_senders_of_clear_text_are_one_flow_beyond_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers must not push out who calls once a month."""
    monkeypatch.setattr(limits, "FLOW_CLIENTS", 2)
    flows = book(tmp_path)
    clear = {"direction": "plaintext", "source": "", "path": "local"}
    flows.extend([row(n, client=f"192.0.2.{n}:1", **clear) for n in (1, 2, 3, 4, 1)])
    assert {flow.client: count.times for flow, count in flows.counts().items()} == {"192.0.2.1": 2, "192.0.2.2": 1, "": 2}


def test_a_connection_of_weeks_was_seen_when_it_ended(tmp_path: Path) -> None:
    """Not when it began."""
    flows = book(tmp_path, now=100.0 + limits.FLOW_AGE_S + 1)
    flows.extend([row(closed_at=100.0 + limits.FLOW_AGE_S)])
    assert [count.last_at for count in flows.counts().values()] == [100.0 + limits.FLOW_AGE_S]


def test_old_flows_do_not_count(tmp_path: Path) -> None:
    """A caller that has not called for so long is none."""
    flows = book(tmp_path, now=100.0 + limits.FLOW_AGE_S + 1)
    flows.extend([row()])
    assert flows.counts() == {}


def test_only_those_seen_lately(tmp_path: Path) -> None:
    """By when they were seen last."""
    flows = book(tmp_path, now=1000.0)
    flows.extend([row(source="a"), row(source="b"), row(source="b", opened_at=950.0)])
    assert [flow.source for flow in flows.counts(100.0)] == ["b"]


def test_who_began_first_and_ended_last_was_seen_first(tmp_path: Path) -> None:
    """Connections are told of when they end."""
    flows = book(tmp_path)
    flows.extend([row(opened_at=120.0, closed_at=121.0), row(opened_at=110.0, closed_at=130.0)])
    assert [(count.first_at, count.last_at) for count in flows.counts().values()] == [(110.0, 130.0)]


def test_they_outlive_a_restart(tmp_path: Path) -> None:
    """Saved when control ends; what was seen before it was read counts too."""

    async def keep(flows: FlowBook) -> None:
        task = asyncio.create_task(flows.keep())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    first = book(tmp_path)
    first.extend([row()])
    run(lambda: keep(first))
    second = book(tmp_path)
    second.restore()
    assert second.counts() == first.counts()
    assert (tmp_path / "flows").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("data", [b"", b"\xff\x00", b"\x82\xa5flows\x93", b"[]"])
def test_a_spoiled_file_is_no_obstacle(tmp_path: Path, data: bytes) -> None:
    """Flows are seen again."""
    (tmp_path / "flows").write_bytes(data)
    flows = book(tmp_path)
    flows.restore()
    assert flows.counts() == {}


def test_a_full_disk_is_said_and_costs_only_the_file(tmp_path: Path) -> None:
    """The book goes on, and is saved when there is room."""
    flows = FlowBook(tmp_path / "missing" / "flows", lambda: 200.0)
    flows.extend([row()])
    flows._write(flows._unsaved())
    assert flows.counts()
    assert flows.complaint == f"{tmp_path}/missing/flows: who called whom could not be saved (No such file or directory): after a restart `enforce` knows less"
    (tmp_path / "missing").mkdir()
    flows._write(flows._unsaved())
    assert (flows._unsaved(), flows.complaint) == (b"", "")
    assert (tmp_path / "missing" / "flows").exists()


def test_a_book_has_an_end(tmp_path: Path) -> None:
    """The limit as it is."""
    flows = FlowBook(tmp_path / "flows", lambda: 200.0)
    flows.extend(row(source=f"s{number}") for number in range(limits.FLOWS_KEPT + 1))
    assert len(flows.counts()) == limits.FLOWS_KEPT
    assert "s0" not in {flow.source for flow in flows.counts()}


def test_a_crash_costs_only_what_was_seen_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is saved now and then, without an end of control."""
    monkeypatch.setattr(limits, "FLOWS_SAVE_S", 0.01)
    flows = book(tmp_path)
    flows.extend([row()])

    async def scene() -> None:
        task = asyncio.create_task(flows.keep())
        await until((tmp_path / "flows").exists, "the file")
        task.cancel()
        await asyncio.wait([task])

    run(scene)


def test_a_clock_that_is_set_changes_nothing_of_who_was_seen_first(tmp_path: Path) -> None:
    """Else clear text of today would be older than a tunnel that was seen while the clock was ahead."""
    flows = book(tmp_path)
    flows.extend([row(source="before", opened_at=110.0)])
    flows.shift(3600.0)
    flows.extend([row(source="ahead", opened_at=3750.0)])
    flows.shift(-3600.0)
    flows.extend([row(source="after", opened_at=190.0)])
    assert [(flow.source, count.last_at) for flow, count in flows.counts().items()] == [("before", 110.0), ("ahead", 150.0), ("after", 190.0)]


def test_a_wrong_clock_costs_no_flow_its_file_and_makes_none_the_latest_for_ever(tmp_path: Path) -> None:
    """Written while it was 40 days ahead, read once it is right."""
    then = 200.0 + 40 * 86400
    flows = book(tmp_path)
    flows.extend([row(source="old", opened_at=150.0), row(source="new", opened_at=then)])
    flows._write(flows._unsaved())
    later = FlowBook(tmp_path / "flows", lambda: 200.0)
    later.restore()
    assert [(flow.source, count.last_at) for flow, count in later.counts().items()] == [("old", 150.0), ("new", 200.0)]
