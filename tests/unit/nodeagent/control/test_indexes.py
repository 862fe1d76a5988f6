"""A catalog that is an older one than before the outage: named, and what it does not know is not forgotten at once."""

import asyncio
import contextlib

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.catalog.state import RESTORED
from nodeagent.config import CatalogTable
from nodeagent.control.admission import AWAY, REWOUND
from nodeagent.control.consul import Catalog
from nodeagent.control.environment import Environment
from nodeagent.control.follow import Follower
from nodeagent.control.indexes import REWOUND_AT, Indexes
from nodeagent.control.lately import there
from nodeagent.observe.metrics import Metrics
from tests.support.control_scene import ControlScene
from tests.support.loop import run, until
from tests.support.mesh import config
from tests.support.scripted_catalog import INTENTIONS, NODES, SERVICES, ScriptedCatalog, instance, node

HOST1, HOST2 = node("host1", "10.77.0.1", "fd77::1"), node("host2", "10.77.0.2", "fd77::2")
API = "/v1/health/service/api"


def older(peer: ScriptedCatalog) -> None:
    """As it was before `api` was registered."""
    peer.index = 3
    peer.values[API] = 3, []
    for path in (NODES, SERVICES, "/v1/health/service/web"):
        peer.values[path] = 3, peer.values[path][1]
    peer.values[SERVICES] = 3, {"web": []}


async def away(peer: ScriptedCatalog, catalog: Catalog) -> int:
    """Nobody reaches it any more; gives its port."""
    port = peer.port
    for path in list(peer.values):
        peer.scripts[path] = lambda request: request.transport.abort()
    await peer._site.stop()
    await catalog._forget_session()
    peer.set(NODES, peer.values[NODES][1])  # who waits is answered, and cut off
    await until(lambda: catalog.failing_since, "the outage")
    return port


class Scene:
    """A follower on host1, whose clock is the test's, with one instance of `api`."""

    def __init__(self, peer: ScriptedCatalog) -> None:
        self.now = 1000.0
        env = Environment(lambda: self.now, lambda: 0.0, lambda: self.now)
        self.catalog = Catalog(CatalogTable(peer.address, token_file=""), env.now, env.elapsed)
        self.follower = Follower(config(), self.catalog, Metrics("1"), env)

    def knows(self, name: str) -> bool:
        state = self.follower.state()
        return bool(state and there(state.instances.get(name, ())))


def test_an_older_catalog_after_an_outage_is_named_and_loses_no_small_service_at_once() -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer:
            playing = Scene(peer)
            peer.set(NODES, [HOST1, HOST2])
            peer.register("web", instance(HOST2, "web", 80))
            peer.register("api", instance(HOST2, "api", 9090))
            async with playing.catalog:
                task = asyncio.create_task(playing.follower.run())
                await until(lambda: playing.knows("api") and playing.knows("web"), "both services")
                port = await away(peer, playing.catalog)
                older(peer)
                peer.scripts.clear()
                await peer.open(port)
                await until(lambda: "went back from" in playing.follower.rewind_alarm, "the alarm")
                await until(lambda: any("api: 1 of 1 instances vanished" in line for line in playing.follower.alarms()), "the hold")
                assert playing.knows("api")
                playing.now += limits.HOLD_BACK_S
                await until(lambda: not playing.knows("api"), "the end of the hold")
                assert playing.knows("web")
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    run(scene)


@pytest.mark.parametrize("saved", [{}, {"/v1/catalog/nodes": 4, RESTORED: 0}])
def test_a_restore_beside_the_running_server_is_noticed_although_the_index_goes_on(saved: dict[str, int]) -> None:
    """By what the answers say of it, also where the agent was started since: else what was registered after the snapshot is forgotten at once."""

    async def scene() -> None:
        async with ScriptedCatalog() as peer:
            playing = Scene(peer)
            playing.catalog.indexes.remember(saved)
            peer.marks = {} if saved else {RESTORED: "0"}
            peer.set(NODES, [HOST1, HOST2])
            peer.register("api", instance(HOST2, "api", 9090))
            async with playing.catalog:
                task = asyncio.create_task(playing.follower.run())
                await until(lambda: playing.knows("api") and playing.catalog.is_settled, "the service")
                assert playing.follower.rewind_alarm == ""
                peer.marks = {RESTORED: str(peer.index + 1)}
                peer.register("api")
                await until(lambda: any("api: 1 of 1 instances vanished" in line and REWOUND in line for line in playing.follower.alarms()), "the hold")
                assert "the catalog's data went back at" in playing.follower.rewind_alarm
                assert playing.knows("api")
                assert peer.marks == {RESTORED: str(playing.catalog.indexes.saved()[RESTORED])}
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    run(scene)


def test_a_restore_is_one_that_was_not_told_before() -> None:
    """Of a catalog that tells of none (Consul), or told for the first time, nothing is concluded."""
    indexes = Indexes()
    told = [(None, False), ("12", False), ("12", False), (None, False), ("x", False), ("30", True), ("30", False), ("0", True)]
    assert [is_new for _, is_new in told] == [indexes.note_restored(header) for header, _ in told]
    assert {RESTORED: 0} == indexes.saved()


def test_a_restarted_agent_knows_how_far_the_catalog_was(tmp_path) -> None:
    """The index is saved beside what it counted; what is gone since counts as after an outage."""

    async def scene() -> None:
        peer = ScriptedCatalog()
        peer.index = 50
        async with ControlScene(tmp_path, peer=peer) as playing:
            peer.register("api", instance(HOST2, "api", 9090))
            await until(lambda: b"api" in (tmp_path / "snapshot").read_bytes() if (tmp_path / "snapshot").exists() else False, "the service is saved")
            assert "went back" not in str((await playing.get("/v1/status"))[1]["warnings"])
        (tmp_path / "api.sock").unlink(missing_ok=True)
        later = ScriptedCatalog()
        later.ca = peer.ca
        later.values = dict(later.values) | {"/v1/connect/ca/roots": (later.index, peer.roots())}
        async with ControlScene(tmp_path, peer=later) as playing:
            async with asyncio.timeout(30):
                while "went back from" not in (said := str((await playing.get("/v1/status"))[1]["warnings"])) or "api: 1 of 1" not in said:
                    await asyncio.sleep(0.02)
            _, body = await playing.get("/v1/services")
            assert [1] == [len(part["instances"]) for part in body["services"] if part["name"] == "api"]

    run(scene)


def test_what_is_held_is_held_over_a_restart_of_the_agent(tmp_path) -> None:
    """The catalog is as old as before it: to its answers alone nothing has vanished since."""

    async def told(playing: ControlScene) -> str:
        warnings = ""
        async with asyncio.timeout(30):
            while "data went back at" not in warnings or "api: 1 of 1 instances vanished at once" not in warnings:
                await asyncio.sleep(0.02)
                warnings = str((await playing.get("/v1/status"))[1]["warnings"])
        return warnings

    async def scene() -> None:
        peer, path = ScriptedCatalog(), tmp_path / "snapshot"
        peer.marks = {RESTORED: "0"}
        async with ControlScene(tmp_path, peer=peer) as playing:
            peer.register("api", instance(HOST2, "api", 9090))
            await until(lambda: path.exists() and b"api" in path.read_bytes(), "the service is saved")
            peer.marks = {RESTORED: "50"}
            peer.register("api")
            peer.register("new", instance(HOST2, "new", 9091))
            await told(playing)
            await until(lambda: REWOUND_AT.encode() in path.read_bytes(), "that it is an older one is saved")
        (tmp_path / "api.sock").unlink(missing_ok=True)
        later = ScriptedCatalog()
        later.ca, later.marks, later.index = peer.ca, peer.marks, peer.index
        later.values = dict(later.values) | peer.values | {"/v1/connect/ca/roots": (later.index, peer.roots())}
        async with ControlScene(tmp_path, peer=later) as playing:
            await told(playing)

    run(scene)


@pytest.mark.parametrize(("age_s", "is_still"), [(0, True), (-5000, True), (limits.REWIND_SHOWN_S - 1, True), (limits.REWIND_SHOWN_S, False)])
def test_a_restart_neither_ends_nor_prolongs_what_is_said_of_an_older_catalog(age_s: float, is_still: bool) -> None:  # noqa: FBT001 - a table's column
    """A clock that was set back ends nothing, either."""
    elapsed = 5.0
    catalog = Catalog(CatalogTable("http://127.0.0.1:1"), lambda: 1_800_000_000.0, lambda: elapsed)
    catalog.remember({REWOUND_AT: 1_800_000_000 - int(age_s), "/a": 7})
    assert (catalog.is_rewound, bool(catalog.rewind_alarm)) == (is_still, is_still)
    assert catalog.indexes.saved() == {"/a": 7}
    assert (REWOUND_AT in catalog.saved()) is is_still
    elapsed += limits.REWIND_SHOWN_S
    assert {"/a": 7} == catalog.saved()


def test_an_index_is_compared_with_the_last_of_its_own_path() -> None:
    """Of a path that was not heard nothing is older; what went back is told once, and counted from there."""
    catalog = Catalog(CatalogTable("http://127.0.0.1:1"), lambda: 1000.0)
    for path, header in (("/a", "50"), ("/b", "7"), ("/a", "50"), ("/a", None)):
        catalog.note_index(path, header)
    assert not catalog.is_rewound
    catalog.note_index("/a", "60")
    catalog.note_index("/a", "8")
    assert "from 60 to 8 (/a)" in catalog.rewound
    catalog.note_index("/b", "3")  # it was told already
    catalog.note_index("/a", "9")
    assert "(/a)" in catalog.rewound
    assert {"/a": 9, "/b": 3} == catalog.indexes.saved()


def test_which_catalog_is_there_is_known_when_every_path_was_answered_or_after_a_while() -> None:
    """One of them may be refused from now on, and must not keep all that vanished for ever."""
    wall = now = 1000.0
    catalog = Catalog(CatalogTable("http://127.0.0.1:1"), lambda: wall, lambda: now)
    for path in ("/a", "/b", "/c"):
        catalog.note_index(path, "50")
    assert catalog.is_settled
    catalog.indexes.doubt()
    catalog._succeed()
    wall = 5.0  # the clock is set back
    catalog.note_index("/a", "50")
    catalog.indexes.keep(("/b", "/c"), {"/c"})
    now += limits.CATALOG_SETTLE_S - 1
    assert not catalog.is_settled
    now += 1
    assert catalog.is_settled
    now = 1000.0
    catalog.note_index("/c", "51")
    assert catalog.is_settled
    catalog.indexes.doubt()
    catalog.note_index("/c", "7")
    assert (catalog.is_settled, catalog.is_rewound) == (True, True)


def test_what_vanished_waits_until_the_catalog_is_known() -> None:
    """The answer that shows an older one may be another path's, and come later."""

    async def scene() -> None:
        async with ScriptedCatalog() as peer:
            playing = Scene(peer)
            peer.set(NODES, [HOST1, HOST2])
            peer.register("api", instance(HOST2, "api", 9090))
            peer.set(INTENTIONS, [])
            async with playing.catalog:
                task = asyncio.create_task(playing.follower.run())
                await until(lambda: playing.knows("api"), "the service")
                port = await away(peer, playing.catalog)
                before = peer.values[API][0]
                peer.values[API] = before, []
                late = asyncio.Event()
                peer.scripts.clear()
                peer.scripts[INTENTIONS] = lambda _: None if late.is_set() else web.Response(status=500, text="not yet")
                peer.index = before
                peer.values[INTENTIONS] = before, []
                await peer.open(port)
                await until(lambda: any("api: 1 of 1 instances vanished at once" in line and AWAY in line for line in playing.follower.complaints()), "it waits")
                assert playing.knows("api")
                late.set()
                await until(lambda: any("api: 1 of 1 instances vanished" in line and REWOUND in line for line in playing.follower.alarms()), "the hold")
                assert playing.knows("api")
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    run(scene)


def test_a_path_that_nobody_asks_for_any_more_is_waited_for_by_nobody() -> None:
    """As of a service that went while no agent ran; else each start would wait its whole time, and the disk keep it for ever."""

    async def scene() -> None:
        async with ScriptedCatalog() as peer:
            playing = Scene(peer)
            playing.catalog.indexes.remember(dict.fromkeys(("/v1/health/service/old", "/v1/catalog/node/renamed", API), 2))
            peer.set(NODES, [HOST1, HOST2])
            peer.register("api", instance(HOST2, "api", 9090))
            async with playing.catalog:
                task = asyncio.create_task(playing.follower.run())
                await until(lambda: playing.knows("api") and playing.catalog.is_settled, "it is known")
                watched = {path for path, watch in playing.follower._watches.items() if not watch.rhythm.may_go_back}
                assert playing.catalog.indexes.saved().keys() == watched
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    run(scene)


@pytest.mark.parametrize("header", ["garbage", str(2**64), "0"])
def test_what_is_no_index_is_not_older(header: str) -> None:
    catalog = Catalog(CatalogTable("http://127.0.0.1:1"), lambda: 1000.0)
    catalog.note_index("/a", "60")
    catalog.note_index("/a", header)
    assert not catalog.is_rewound
