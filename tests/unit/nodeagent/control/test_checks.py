"""What an agent looks at for the catalog, against a catalog that says what a test wants."""

import asyncio
import collections
import contextlib
import itertools
import socket

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.catalog.duties import Look
from nodeagent.config import CatalogTable
from nodeagent.control.checks import DUTIES, Checks
from nodeagent.control.consul import Catalog
from nodeagent.control.look import Looker
from nodeagent.observe.metrics import Metrics
from tests.support.control_scene import ControlScene
from tests.support.loop import run, until
from tests.support.scripted_catalog import ScriptedCatalog


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(limits, "CHECK_INTERVAL_MIN_S", 0.0)
    monkeypatch.setattr(limits, "CHECKS_UNSERVED_S", 0.01)


class Scene:
    """A catalog, the checks of an agent, and a port that can be closed and opened."""

    def __init__(self, peer):
        self.peer = peer
        clock = itertools.count(1.0)
        self.catalog = Catalog(CatalogTable(peer.address, token_file=""), lambda: next(clock))
        self.checks = Checks(self.catalog, Metrics("1"), lambda: 0.0)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))

    def ask(self, *check_ids, **more):
        row = {"Type": "tcp", "Target": f"127.0.0.1:{self.port}", "IntervalS": 0.02, "TimeoutS": 1.0, "Status": "critical", **more}
        self.peer.set(DUTIES, [{"CheckID": check_id, **row} for check_id in check_ids])

    def told(self):
        return [(path.rpartition("/")[2], body["Status"]) for path, body in self.peer.written if "/check/update/" in path]


def played(script):
    """Runs `script(scene)` with checks running."""

    async def scene():
        async with ScriptedCatalog() as peer:
            playing = Scene(peer)
            async with playing.catalog:
                task = asyncio.create_task(playing.checks.run())
                try:
                    await script(playing)
                finally:
                    playing.listener.close()
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    run(scene)


def test_what_changed_is_told_and_nothing_else():
    async def script(scene):
        scene.ask("c")
        await until(lambda: scene.told() == [("c", "passing")], "open")
        scene.listener.close()
        await until(lambda: scene.told() == [("c", "passing"), ("c", "critical")], "closed")
        scene.open()
        await until(lambda: len(scene.told()) == 3, "open again")
        scene.ask("c", Status="passing")
        await asyncio.sleep(0.3)
        assert scene.told()[2:] == [("c", "passing")], "the same again is not told"

    played(script)


def test_what_the_catalog_has_forgotten_is_told_again():
    async def script(scene):
        scene.ask("c")
        await until(scene.told, "told")
        scene.ask("c", Status="passing")
        await asyncio.sleep(0.1)
        before = len(scene.told())
        scene.ask("c", Status="critical")
        await until(lambda: len(scene.told()) > before, "told again")
        assert scene.told()[-1] == ("c", "passing")

    played(script)


def test_a_word_that_did_not_arrive_is_said_with_the_next_look():
    async def script(scene):
        refusals = [500, 500]
        scene.peer.scripts["/v1/agent/check/update/c"] = lambda _: web.Response(status=refusals.pop()) if refusals else None
        scene.ask("c")
        with capture_logs() as logs:
            await until(lambda: scene.told() == [("c", "passing")], "told at last")
        assert [entry["event"] for entry in logs].count("check_not_told") == 1

    played(script)


def test_checks_come_and_go_and_change():
    async def script(scene):
        scene.ask("a", "b")
        await until(lambda: {"a", "b"} == {name for name, _ in scene.told()}, "both")
        scene.ask("b", FailuresBeforeCritical=1000, Status="passing")
        await until(lambda: set(scene.checks._tasks) == {"b"}, "a is gone")
        scene.listener.close()
        await asyncio.sleep(0.2)
        assert scene.told()[-1][1] == "passing", "a thousand failures in a row are not yet there"
        scene.ask()
        await until(lambda: not scene.checks._tasks, "none is left")

    played(script)


def test_what_is_to_be_looked_at_otherwise_is_looked_at_soon():
    """Not when its time of before is over."""

    async def script(scene):
        scene.ask("c", IntervalS=3600.0)
        await until(lambda: scene.told() == [("c", "passing")], "the first look")
        scene.listener.close()
        scene.ask("c", IntervalS=3000.0, Status="passing")
        await until(lambda: scene.told()[-1] == ("c", "critical"), "another look")
        (task,) = scene.checks._tasks.values()
        scene.ask("c", IntervalS=3000.0, Status="critical")
        await asyncio.sleep(0.2)
        assert list(scene.checks._tasks.values()) == [task], "how it is is none of that"

    played(script)


def test_a_catalog_without_checks_for_agents_is_asked_seldom_and_is_no_complaint(monkeypatch):
    monkeypatch.setattr(limits, "CHECKS_UNSERVED_S", 3600.0)

    async def script(scene):
        await asyncio.sleep(1.5)
        assert [path for _, path, _ in scene.peer.asked].count(DUTIES) == 1
        assert scene.checks.complaint == ""

    played(script)


def test_a_catalog_that_is_replaced_by_one_that_has_them_is_heard():
    async def script(scene):
        await until(lambda: [path for _, path, _ in scene.peer.asked].count(DUTIES) > 1, "asked again")
        scene.ask("c")
        await until(lambda: scene.told() == [("c", "passing")], "told")

    played(script)


def test_an_agent_with_something_to_look_at_asks_often(monkeypatch):
    """So the catalog knows that somebody looks; one without has nothing to say."""
    monkeypatch.setattr(limits, "CHECK_BEAT_S", 7.0)

    async def script(scene):
        waits, read = [], scene.catalog.read

        async def noted(path, index, wait_s):
            waits.append(wait_s)
            return await read(path, index, wait_s)

        scene.catalog.read = noted
        scene.ask()
        await until(lambda: waits == [limits.CONSUL_WAIT_S] * len(waits) and len(waits) > 1, "nothing to look at")
        scene.ask("c")
        await until(lambda: waits[-1] == 7.0, "something")

    played(script)


def test_garbage_is_a_complaint_and_what_was_known_goes_on():
    async def script(scene):
        scene.ask("c")
        await until(scene.told, "told")
        scene.peer.set(DUTIES, [{"CheckID": "c", "Type": "exec"}])
        await until(lambda: DUTIES in scene.checks.complaint, "a complaint")
        scene.listener.close()
        await until(lambda: scene.told()[-1] == ("c", "critical"), "still looked at")

    played(script)


def test_no_more_looks_than_that_at_once_and_those_that_hang_keep_no_others_from_their_turn(monkeypatch):
    monkeypatch.setattr(limits, "CHECK_LOOKS", 3)
    monkeypatch.setattr(limits, "CHECK_LATE_LOOKS", 2)
    monkeypatch.setattr(limits, "CHECK_SPREAD_S", 0.0)
    most, now, ended = 0, 0, asyncio.Event()
    looks = collections.Counter()

    async def look(_looker, duty):
        nonlocal most, now
        looks[duty.check_id] += 1
        now += 1
        most = max(most, now)
        hangs = duty.check_id != "well"
        if hangs and looks[duty.check_id] > 1:
            await ended.wait()
        await asyncio.sleep(0.01)
        now -= 1
        return Look("critical", "", is_late=True) if hangs else Look("passing", "")

    async def script(scene):
        scene.ask(*"abcdef", "well")
        await until(lambda: looks["well"] > 20, "it is looked at while others hang")
        assert most <= 5
        assert sum(count > 1 for name, count in looks.items() if name != "well") == 2
        assert [*scene.checks.notes()][-1] == "4 checks wait for their turn: too many applications of this host do not answer in time"
        ended.set()
        await until(lambda: min(looks.values()) > 2, "all have their turn")

    monkeypatch.setattr(Looker, "look", look)
    played(script)


def test_words_without_a_new_status_are_told_now_and_then(monkeypatch):
    monkeypatch.setattr(limits, "CHECK_SPREAD_S", 0.0)
    words = itertools.count()

    async def look(_looker, _duty):
        return Look("passing", str(next(words)))

    async def script(scene):
        scene.ask("c", Status="passing")
        await until(lambda: next(words) > 50, "many looks")
        assert len(scene.told()) == 1
        monkeypatch.setattr(limits, "CHECK_OUTPUT_S", 0.0)
        await until(lambda: len(scene.told()) > 3, "told again and again")

    monkeypatch.setattr(Looker, "look", look)
    played(script)


def test_a_word_that_never_arrives_is_one_line_of_the_log():
    async def script(scene):
        scene.peer.scripts["/v1/agent/check/update/c"] = lambda _: web.Response(status=500)
        scene.ask("c")
        with capture_logs() as logs:
            await until(lambda: [path for _, path, _ in scene.peer.asked].count("/v1/agent/check/update/c") > 5, "tried again")
        assert [entry["event"] for entry in logs].count("check_not_told") == 1

    played(script)


def test_an_agent_that_starts_spreads_its_looks(monkeypatch):
    monkeypatch.setattr(limits, "CHECK_SPREAD_S", 3600.0)

    async def script(scene):
        scene.checks._draw = lambda: 0.5
        scene.ask("c", IntervalS=7200.0)
        await until(lambda: scene.checks._tasks, "begun")
        await asyncio.sleep(0.2)
        assert scene.told() == []

    played(script)


def test_a_host_makes_so_many_looks_a_second_and_says_so(monkeypatch):
    """However many are asked for: all are looked at, each as often."""
    monkeypatch.setattr(limits, "CHECK_LOOKS_PER_S", 50.0)
    looks, begun = collections.Counter(), []

    async def look(_looker, duty):
        looks[duty.check_id] += 1
        begun.append(asyncio.get_running_loop().time())
        return Look("passing", "")

    async def script(scene):
        chances = itertools.cycle(number / 20 for number in range(20))
        scene.checks._draw = lambda: next(chances)
        scene.ask(*map(str, range(100)), Status="passing")
        await until(lambda: looks and min(looks[str(number)] for number in range(100)) >= 2, "all were looked at twice")
        assert len(begun) / (begun[-1] - begun[0]) < 75
        assert max(looks.values()) <= 4
        (note,) = scene.checks.notes()
        assert note.startswith("100 checks of this host ask for 5000 looks a second, and it makes 50: none is looked at more often than every 2.0 s")
        scene.ask("0")
        await until(lambda: not [*scene.checks.notes()], "one alone is looked at as it asks for")

    monkeypatch.setattr(Looker, "look", look)
    played(script)


def test_new_statuses_are_told_at_a_pace_that_leaves_the_hosts_token_room(monkeypatch):
    monkeypatch.setattr(limits, "CHECK_TELLS_PER_S", 4.0)
    monkeypatch.setattr(limits, "CHECK_TELLS_BURST", 5)

    async def script(scene):
        scene.ask(*map(str, range(9)))
        await until(lambda: len(scene.told()) >= 5, "at once")
        await asyncio.sleep(0.4)
        assert len(scene.told()) < 9
        await until(lambda: len({name for name, _ in scene.told()}) == 9, "the rest in turn")

    played(script)


def test_what_waited_for_its_turn_is_told_as_it_is_then(monkeypatch):
    """Where many change at once the last ones wait for minutes: an instance that has died meanwhile is not called well."""
    monkeypatch.setattr(limits, "CHECK_TELLS_PER_S", 4.0)
    monkeypatch.setattr(limits, "CHECK_TELLS_BURST", 0)
    looks = []

    async def look(_looker, duty):
        looks.append(duty)
        return Look("critical", "dead") if looks[1:] else Look("passing", "")

    async def script(scene):
        scene.ask("c")
        await until(lambda: len(looks) > 5, "many looks")
        assert scene.told() == [("c", "critical")]

    monkeypatch.setattr(Looker, "look", look)
    played(script)


def test_status_says_that_intervals_are_longer_than_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "CHECK_LOOKS_PER_S", 0.5)
    row = {"CheckID": "c", "Type": "tcp", "Target": "127.0.0.1:1", "IntervalS": 1.0, "TimeoutS": 1.0}

    async def script():
        async with ControlScene(tmp_path) as playing:
            playing.peer.set(DUTIES, [row])
            while not [line for line in (await playing.get("/v1/status"))[1]["warnings"] if "1 checks of this host ask for 1 looks a second" in line]:
                await asyncio.sleep(0.02)

    run(script)
