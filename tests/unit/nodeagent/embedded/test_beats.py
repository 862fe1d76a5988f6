"""Who must say in time that it is well."""

import asyncio
import time
from functools import partial

import msgspec
import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.embedded import agent_api, catalog_api, checks_api
from nodeagent.embedded.beats import Beats, Timed, expire, find_due
from nodeagent.embedded.check import parse_checks_of
from nodeagent.embedded.refusal import StorageFailed
from tests.support.loop import beside
from tests.unit.nodeagent.embedded.desk import HOST1

WEB = Timed("host1", "service:web", 10.0)


def due(beats, now_s, *rows):
    return look(beats, now_s, rows or (WEB,)).due


def look(beats, now_s, rows):
    beats.tick(now_s)
    found = find_due(rows, beats.heard(), now_s)
    beats.settle(found, now_s)
    return found


def steps(beats, begin_s, end_s, *rows):
    """What is due at the end, while this process runs all the time."""
    found = []
    at = begin_s
    while at <= end_s:
        found = due(beats, at, *rows)
        at += limits.CHECK_STALL_S / 2
    return found


def test_everybody_has_its_whole_time_from_when_it_was_first_seen():
    beats = Beats()
    assert steps(beats, 100.0, 110.0) == []
    assert due(beats, 110.5) == [WEB]


def test_a_word_gives_the_whole_time_again():
    beats = Beats()
    steps(beats, 100.0, 108.0)
    beats.hear("host1", "service:web", 108.0)
    assert steps(beats, 109.0, 118.0) == []
    assert due(beats, 118.5) == [WEB]


def test_a_registration_begins_its_time_anew_and_only_of_what_has_one():
    beats = Beats()
    steps(beats, 100.0, 108.0)
    rows = parse_checks_of([{"TTL": "10s"}, {"CheckID": "port", "TCP": "127.0.0.1:1", "Interval": "1s"}], "host1", "web", "web")
    (timed, _) = rows
    beats.begin([msgspec.structs.replace(timed, row=msgspec.structs.replace(timed.row, id=WEB.id)), rows[1]], 108.0)
    assert beats.heard() == {("host1", WEB.id): 108.0}
    assert steps(beats, 109.0, 118.0) == []


def test_time_in_which_the_catalog_itself_did_not_run_counts_for_nobody():
    beats = Beats()
    steps(beats, 100.0, 105.0)
    assert due(beats, 500.0) == []
    assert steps(beats, 501.0, 504.0) == []
    assert steps(beats, 504.5, 510.5) == [WEB]


def test_a_slow_disk_is_no_standstill():
    """Beats are heard meanwhile, and time goes on."""
    beats = Beats()
    due(beats, 100.0)
    for tenth in range(1000, 1111):
        beats.tick(tenth / 10)
    assert due(beats, 111.0) == [WEB]


def test_what_is_gone_is_forgotten():
    beats = Beats()
    steps(beats, 100.0, 109.0)
    assert look(beats, 109.5, ()).gone == {("host1", "service:web")}
    assert steps(beats, 110.0, 119.0) == []


def test_who_is_heard_while_somebody_looks_is_neither_forgotten_nor_ended():
    """Long lists are gone through beside the loop."""
    beats = Beats()
    steps(beats, 100.0, 109.0)
    found, without = find_due([WEB], beats.heard(), 110.5), find_due([], beats.heard(), 110.5)
    beats.hear("host1", "service:web", 110.6)
    assert found.due == [WEB]
    assert beats.heard_since(("host1", "service:web"), 110.5)
    beats.settle(without, 110.5)
    assert beats.heard() == {("host1", "service:web"): 110.6}


def test_words_are_stored_now_and_then():
    beats = Beats()
    assert [beats.may_tell("h", "c", at) for at in (0.0, 1.0, limits.CHECK_OUTPUT_S - 1, limits.CHECK_OUTPUT_S)] == [True, False, False, True]
    look(beats, limits.CHECK_OUTPUT_S * 3, ())
    assert beats.may_tell("h", "c", limits.CHECK_OUTPUT_S * 3)


@pytest.fixture
def expiring(desk, monkeypatch):
    """Runs a script beside the expiry of a desk with `web`, whose TTL is 50 ms."""
    monkeypatch.setattr(limits, "CHECK_EXPIRY_S", 0.01)
    monkeypatch.setattr(limits, "CHECK_INTERVAL_MIN_S", 0.0)
    desk.call(catalog_api.register, HOST1, {"Node": "host1", "Address": "10.0.0.1"})
    desk.call(agent_api.register, HOST1, {"Name": "web", "Check": {"TTL": "50ms", "Status": "passing"}})

    return partial(beside, lambda: expire(desk.store, desk.server.beats))


async def critical(desk):
    while not (rows := await desk.acall(checks_api.in_state, state="critical")):
        await asyncio.sleep(0.01)
    return rows


def test_the_silent_become_critical_and_a_full_disk_and_a_defect_are_outlived(desk, expiring, monkeypatch):
    failures = [StorageFailed("full"), RuntimeError("a defect"), StorageFailed("full")]
    write = desk.store.write

    async def failing(make):
        if failures:
            raise failures.pop()
        return await write(make)

    monkeypatch.setattr(desk.store, "write", failing)
    (row,) = expiring(lambda: critical(desk))
    assert (row["CheckID"], row["Output"]) == ("service:web", "nothing was heard of it for 0.05 s, its TTL")
    assert failures == []


def test_a_standstill_of_the_whole_catalog_ends_nobody(desk, expiring, monkeypatch):
    monkeypatch.setattr(limits, "CHECK_STALL_S", 0.2)
    monkeypatch.setattr("nodeagent.embedded.beats._tick", lambda _: asyncio.sleep(3600))  # it may have its turn too late
    desk.call(agent_api.register, HOST1, {"Name": "web", "Check": {"TTL": "1s"}})

    async def script():
        for _ in range(3):
            await desk.acall(checks_api.passing, HOST1, id="service:web")
            time.sleep(1.5)  # noqa: ASYNC251 - the loop stands still
            await asyncio.sleep(0.1)
        return await desk.acall(checks_api.in_state, state="any")

    (row,) = expiring(script)
    assert row["Status"] == "passing"


def test_who_speaks_while_its_end_is_written_has_the_last_word(desk, expiring, monkeypatch):
    write, begun, go = desk.store.write, asyncio.Event(), asyncio.Event()

    async def slow(make):
        if desk.server.beats.ending and not begun.is_set():
            begun.set()
            await go.wait()
        return await write(make)

    async def script():
        await begun.wait()
        telling = asyncio.create_task(desk.acall(checks_api.passing, HOST1, id="service:web"))
        await asyncio.sleep(0.05)
        monkeypatch.setattr(limits, "CHECK_EXPIRY_S", 3600.0)
        go.set()
        await telling
        await asyncio.sleep(0.1)
        return await desk.acall(checks_api.in_state, state="any")

    monkeypatch.setattr(desk.store, "write", slow)
    (row,) = expiring(script)
    assert row["Status"] == "passing"


def test_a_row_that_cannot_be_read_keeps_no_other_from_its_end(desk, expiring):
    def spoil(change):
        change.connection.execute("INSERT INTO checks VALUES ('host1', 'a', NULL, x'00', 0.05, 'passing', '', 1, 1)")

    asyncio.run(desk.store.write(spoil))
    now = time.monotonic()
    for check_id in ("a", "service:web"):  # both are due at once
        desk.server.beats.hear("host1", check_id, now)
    with capture_logs() as logs:
        expiring(lambda: critical_of(desk, "service:web"))
    assert "check_unreadable" in [entry["event"] for entry in logs]


async def critical_of(desk, check_id):
    while desk.store.read(lambda c: c.execute("SELECT status FROM checks WHERE id = ?", (check_id,)).fetchone()[0]) != "critical":
        await asyncio.sleep(0.01)
