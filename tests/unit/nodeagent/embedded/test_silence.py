"""Hosts whose agents are not heard any more."""

import asyncio
import time
from functools import partial

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.embedded import agent_api, catalog_api, checks_api
from nodeagent.embedded.beats import Beats
from nodeagent.embedded.refusal import StorageFailed
from nodeagent.embedded.silence import end_unseen
from tests.support.loop import beside
from tests.unit.nodeagent.embedded.desk import HOST1, ROOT

PORT = {"CheckID": "port", "TCP": "127.0.0.1:80", "Interval": "10s", "Status": "passing"}
PAGE = {"CheckID": "page", "HTTP": "http://127.0.0.1/", "Interval": "10s", "Status": "warning"}
BEAT = {"CheckID": "beat", "TTL": "1h", "Status": "passing"}


@pytest.fixture
def watched(desk, monkeypatch):
    """Runs a script beside the look for silent agents, whose time is 0.2 s."""
    monkeypatch.setattr(limits, "CHECK_SILENT_S", 0.2)
    monkeypatch.setattr(limits, "CHECK_SILENT_LOOK_S", 0.01)
    desk.call(catalog_api.register, HOST1, {"Node": "host1", "Address": "10.0.0.1"})
    told = {"CheckID": "told", "Status": "passing", "ServiceID": "web"}
    desk.call(agent_api.register, HOST1, {"Name": "web", "Port": 80, "Checks": [PORT, PAGE, BEAT]})
    desk.call(catalog_api.register, ROOT, {"Node": "host1", "SkipNodeUpdate": True, "Check": told})

    return partial(beside, lambda: end_unseen(desk.store, desk.server.beats))


async def states(desk):
    return {row["CheckID"]: row["Status"] for row in await desk.acall(checks_api.of_service, name="web")}


async def ended(desk):
    while (found := await states(desk))["port"] != "critical":
        await asyncio.sleep(0.01)
    return found


def test_what_a_silent_agent_looked_at_is_critical_and_nothing_else(desk, watched):
    with capture_logs() as logs:
        assert watched(lambda: ended(desk)) == {"port": "critical", "page": "critical", "beat": "passing", "told": "passing"}
    (row,) = [row for row in desk.call(checks_api.of_service, name="web") if row["CheckID"] == "port"]
    assert row["Output"] == "nobody looks: the agent of host1 was not heard any more"
    assert [entry for entry in logs if entry["event"] == "agent_silent"] == [{"event": "agent_silent", "log_level": "warning", "node": "host1", "checks": 2}]


def test_who_asks_what_to_look_at_lives(desk, watched):
    async def script():
        for _ in range(60):
            await desk.acall(checks_api.duties, HOST1)
            await asyncio.sleep(0.01)
        alive = await states(desk)
        await desk.acall(checks_api.duties, ROOT, query={"node": "host1"})  # an operator who looks is no agent
        return alive, await ended(desk)

    alive, after = watched(script)
    assert alive == {"port": "passing", "page": "warning", "beat": "passing", "told": "passing"}
    assert after["page"] == "critical"


def test_a_standstill_of_the_whole_catalog_ends_nobody(desk, watched, monkeypatch):
    monkeypatch.setattr(limits, "CHECK_STALL_S", 0.1)
    monkeypatch.setattr(limits, "CHECK_SILENT_S", 0.5)

    async def script():
        await asyncio.sleep(0.1)
        for _ in range(3):
            await desk.acall(checks_api.duties, HOST1)
            time.sleep(0.8)  # noqa: ASYNC251 - the loop stands still
            await asyncio.sleep(0.1)
        return await states(desk)

    assert watched(script)["port"] == "passing"


def test_an_agent_that_comes_back_says_how_it_is(desk, watched):
    async def script():
        await ended(desk)
        await desk.acall(checks_api.duties, HOST1)
        await desk.acall(checks_api.update, HOST1, {"Status": "passing"}, id="port")
        return await states(desk)

    assert watched(script)["port"] == "passing"


def test_a_full_disk_and_a_defect_are_outlived(desk, watched, monkeypatch):
    failures = [StorageFailed("full"), RuntimeError("a defect")]
    write = desk.store.write

    async def failing(make):
        if failures:
            raise failures.pop()
        return await write(make)

    monkeypatch.setattr(desk.store, "write", failing)
    with capture_logs() as logs:
        watched(lambda: ended(desk))
    assert "silent_agents_not_noted" in [entry["event"] for entry in logs]


def test_an_agent_that_is_heard_while_its_end_is_written_has_the_last_word(desk, watched, monkeypatch):
    write = desk.store.write

    async def late(make):
        await desk.acall(checks_api.duties, HOST1)
        tried.set()
        return await write(make)

    tried = asyncio.Event()
    monkeypatch.setattr(desk.store, "write", late)

    async def script():
        await tried.wait()
        await asyncio.sleep(0.05)
        return await states(desk)

    assert watched(script)["port"] == "passing"


def test_a_row_that_cannot_be_read_keeps_no_other_host_from_its_end(desk, watched):
    def spoil(change):
        change.connection.execute("INSERT INTO nodes VALUES ('bad', x'00', 1, 1)")
        change.connection.execute("INSERT INTO checks VALUES ('bad', 'a', NULL, x'00', 0, 'passing', '', 1, 1)")

    asyncio.run(desk.store.write(spoil))
    with capture_logs() as logs:
        watched(lambda: ended(desk))
    assert "check_unreadable" in [entry["event"] for entry in logs]


def test_a_question_that_waits_gives_its_wait_and_a_standstill_of_the_catalog_counts_for_nobody():
    beats, end = Beats(), limits.CHECK_BEAT_S * 17 / 16 + limits.CHECK_SILENT_S
    beats.tick(100.0)
    beats.hear_agent("host1", 100.0, limits.CHECK_BEAT_S)
    assert (beats.silent(["host1"], 100.0 + end), beats.silent(["host1"], 100.1 + end)) == ([], ["host1"])
    beats.hear_agent("host1", 101.0, 0.0)
    beats.tick(1000.0)
    assert beats.silent(["host1"], 1000.0) == []
    assert beats.silent(["new"], 1000.0) == []
    assert beats.silent(["new"], 1000.1 + limits.CHECK_SILENT_S) == ["new"]
    beats.excuse(["new"], 1000.1 + limits.CHECK_SILENT_S)
    assert beats.silent(["new"], 1000.2 + limits.CHECK_SILENT_S) == []
