"""Services that are too many to be watched one by one, as the follower has them from a scripted catalog."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from msgspec.structs import replace

from nodeagent import limits
from nodeagent.catalog.inventory import Inventory
from nodeagent.config import CatalogTable
from nodeagent.control import follow
from nodeagent.control.consul import Answer, Catalog
from nodeagent.control.environment import Environment
from nodeagent.control.follow import Follower
from nodeagent.control.lately import there
from nodeagent.control.seen import Seen
from nodeagent.control.together import Together, in_turns
from nodeagent.control.watch import Rhythm
from nodeagent.observe.metrics import Metrics
from tests.support.loop import run, until
from tests.support.mesh import HOSTS, config
from tests.support.mesh import instance as row_of
from tests.support.scripted_catalog import INVENTORY, NODES, SELF, SERVICES, ScriptedCatalog, instance, node

HOST1 = node("host1", "10.77.0.1")
HOST2 = node("host2", "10.77.0.2")
WATCHED = 2


class Scene:
    """A follower on host1 that may watch WATCHED services, of five: s0 to s4."""

    def __init__(self, peer: ScriptedCatalog) -> None:
        self.peer = peer
        self.elapsed = 1000.0
        env = Environment(lambda: 1000.0, lambda: 0.0, lambda: self.elapsed)
        self.catalog = Catalog(CatalogTable(peer.address, token_file=""), env.now)
        self.follower = Follower(config(), self.catalog, Metrics("1"), env)

    def services(self) -> dict[str, int]:
        state = self.follower.state()
        found = {name: len(there(rows)) for name, rows in state.instances.items()} if state else {}
        return {name: count for name, count in found.items() if count or name in (self.follower.seen.names or ())}

    def asked(self, path: str) -> list[str]:
        return [index for _, asked, index in self.peer.asked if asked == path]

    def watched(self) -> set[str]:
        """Services that are asked for by themselves, with blocking queries, now."""
        return {path.rpartition("/")[2] for path, watch in self.follower._watches.items() if "/service/" in path and not watch.rhythm.poll_s}


def register(peer: ScriptedCatalog, *names: str) -> None:
    for number, name in enumerate(names):
        peer.register(name, instance(HOST2, name, 80 + number))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(limits, "CATALOG_WATCHES", follow._OTHER_WATCHES + WATCHED + 2)  # the one answer's, and this host's
    monkeypatch.setattr(follow, "_POLLED", Rhythm(poll_s=0.05))
    monkeypatch.setattr(follow, "_LONG", Rhythm(rest_s=0.05, backoff_max_s=0.05))

    def play(script: Callable[[Scene, ScriptedCatalog], Awaitable[None]], *, has_inventory: bool = True) -> None:
        async def scene() -> None:
            async with ScriptedCatalog() as peer:
                peer.has_inventory = has_inventory
                peer.set(NODES, [HOST1, HOST2])
                register(peer, "s0", "s1", "s2", "s3", "s4")
                playing = Scene(peer)
                async with playing.catalog:
                    task = asyncio.create_task(playing.follower.run())
                    try:
                        await until(lambda: len(playing.services()) == 5, "all services")
                        await script(playing, peer)
                    finally:
                        task.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await task

        run(scene)

    return play


def test_those_beyond_the_number_of_watches_are_read_in_one_answer(played) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        assert scene.watched() == {"s0", "s1"}
        assert scene.follower.state().is_late
        assert "3 services read in one answer, the others watched" in scene.follower.found
        peer.set("/v1/health/service/s4", [])
        await until(lambda: scene.services()["s4"] == 0, "the change of one that is not watched")
        assert all(scene.asked(f"/v1/health/service/s{n}") == [] for n in (2, 3, 4))
        assert len(scene.follower._watches) == limits.CATALOG_WATCHES - 3  # the roots', and two of the KV store's

    played(script)


def test_as_many_as_can_be_watched_are(played) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        for name in ("s3", "s4"):
            peer.set(f"/v1/health/service/{name}", [])
        peer.set(SERVICES, {name: [] for name in ("s0", "s1", "s2")})
        await until(lambda: set(scene.services()) == {"s0", "s1", "s2"}, "two are gone")
        scene.elapsed += limits.HOLD_BACK_S
        await until(lambda: scene.services() and scene.watched() == {"s0", "s1", "s2"}, "a watch for each")
        assert INVENTORY not in scene.follower._watches
        assert scene.follower._own.path not in scene.follower._watches
        assert scene.follower.found == ()
        await until(lambda: (state := scene.follower.state()) and not state.is_late, "that nothing is late any more")

    played(script)


def test_what_is_called_from_here_is_watched_from_then_on_and_no_news_is_lost(played) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        scene.follower.note_calls({"s4", ""})
        await until(lambda: scene.watched() == {"s0", "s4"}, "the watch of what was called")
        peer.set("/v1/health/service/s1", [])
        await until(lambda: scene.services()["s1"] == 0, "the change of the one that made room")
        peer.set("/v1/health/service/s4", [])
        await until(lambda: scene.services()["s4"] == 0, "the change of what was called")
        peer.allow("* -> s2", "* -> s3")
        await until(lambda: scene.watched() == {"s2", "s4"}, "the watch of one that anybody may call")
        scene.elapsed += limits.CATALOG_DIALLED_S
        peer.register("s0", instance(HOST2, "s0", 999))
        await until(lambda: scene.watched() == {"s2", "s3"}, "the end of what was called long ago")

    played(script)


def test_this_host_s_own_services_are_watched_first(played) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("s3", instance(HOST1, "s3", 80))
        peer.allow("s3 -> s2")
        await until(lambda: scene.watched() == {"s2", "s3"}, "its own, and what that may call")

    played(script)


def test_a_new_instance_here_is_known_at_once(played, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is called through this agent: its own row is watched."""
    monkeypatch.setattr(follow, "_LONG", Rhythm(rest_s=3600.0))

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("s4", instance(HOST2, "s4", 84), instance(HOST1, "s4", 80))
        await until(lambda: scene.services()["s4"] == 2, "its own")
        assert "s4" in scene.watched()

    played(script)


def test_this_host_s_own_row_that_goes_is_no_older_catalog(played) -> None:
    """A Consul gives the row its own index, and 1 where there is none."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        path = scene.follower._own.path
        row = {"Node": HOST1, "Services": {"s3": {"ID": "s3", "Service": "s3", "Port": 80}}}
        peer.set(path, row)
        await until(lambda: scene.follower._own.names == {"s3"}, "its row")
        peer.scripts[path] = lambda _: web.json_response(None, headers={"X-Consul-Index": "1"})
        peer.set(path, row)
        await until(lambda: not scene.follower._own.names, "that it is gone")
        assert scene.follower.rewind_alarm == ""

    played(script)


def test_a_new_service_is_read_at_once(played, monkeypatch: pytest.MonkeyPatch) -> None:
    """And forgotten by itself once the one answer has it; more than a few are asked for by another such answer."""
    monkeypatch.setattr(limits, "CATALOG_ALONE", 2)

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        monkeypatch.setattr(follow, "_LONG", Rhythm(rest_s=3600.0))
        scene.follower._watches[INVENTORY].rhythm = follow._LONG
        peer.set("/v1/health/service/s4", [])
        await until(lambda: scene.services()["s4"] == 0, "the last answer for an hour")
        count = len(scene.asked(INVENTORY))
        register(peer, "t0")
        await until(lambda: scene.services().get("t0"), "the new service")
        await until(lambda: not any("t0" in path for path in scene.follower._watches), "the end of its own questions")
        assert len(scene.asked(INVENTORY)) == count
        for name in ("u0", "u1", "u2"):
            peer.values[f"/v1/health/service/{name}"] = peer.index, [instance(HOST2, name, 90)]
        peer.set(SERVICES, {**peer.values[SERVICES][1], "u0": [], "u1": [], "u2": []})
        await until(lambda: scene.services().get("u2"), "many new ones")
        assert len(scene.asked(INVENTORY)) == count + 1
        assert scene.asked("/v1/health/service/u0") == []

    played(script)


def test_an_answer_that_may_be_older_than_a_service_s_own_takes_nothing_back(played) -> None:
    """A sidecar, which has no instances by either, is nothing to ask again for; nor is what was said before the question."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        together, seen = scene.follower._together, scene.follower.seen
        together.names |= {"s9", "t9"}
        seen.instances |= {"s9": seen.instances["s4"], "t9": ()}
        together.note_own("s9", seen.instances["s9"])
        together.note_own("t9", ())
        for is_doubted in (True, False):
            news, complaints = await together.news(Inventory({}, {}), together.names, lambda *_: False)
            assert ("s4" in news, "s9" in news, "t9" in news) == (True, not is_doubted, False)
            assert (complaints, together.is_outdated((), ("s9", "t9"))) == ([], is_doubted)
            await together.read(0, 0.0)

    played(script)


def test_an_instance_that_has_moved_is_news_once() -> None:
    """What is in force of it is since when it is where it is, which no answer says."""
    row = replace(row_of(HOSTS[1], 85, since=100), said_at=200)
    together = Together(Catalog(CatalogTable("http://127.0.0.1:1"), lambda: 0.0), Seen(), lambda: None)
    together._seen.instances["web"] = (replace(row, registered_at=200),)
    together.names, together.listed = frozenset({"web"}), Inventory({"web": (row,)}, {})
    assert run(lambda: together.news(together.listed, together.names, lambda *_: False)) == ({}, [])
    assert not together.is_outdated({"web"}, ())


def test_an_answer_that_is_overtaken_while_it_is_put_into_force_takes_nothing_back(played, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalog is asked about what it lost; meanwhile a call had one of its services read by itself."""
    monkeypatch.setattr(follow, "_LONG", Rhythm(rest_s=3600.0))

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        follower = scene.follower
        ask, path = follower.admission.unseen, "/v1/health/service/s4"
        new = [*peer.values[path][1], instance(HOST2, "s4", 9001, "new")]

        async def overtaken(answers):
            if len(answers) > 1:
                peer.values[path] = peer.index, new
                await follower._taker("s4")(await scene.catalog.read(path))
            return await ask(answers)

        monkeypatch.setattr(follower.admission, "unseen", overtaken)
        await follower._put_all({"s3": (), "s4": ()}, is_filtered=False)
        assert [0, 2] == [len(there(follower.seen.instances[name])) for name in ("s3", "s4")]
        assert follower._together.is_outdated((), ())

    played(script)


def test_an_answer_to_a_question_of_before_says_nothing_of_a_new_service(played) -> None:
    """Else it counts as one without instances, and is not read by itself any more."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        together = scene.follower._together
        together.names |= {"s9"}
        assert "s9" not in (await together.news(Inventory({}, {}), together.names, lambda *_: False))[0]
        await together.read(0, 0.0)
        assert (await together.news(Inventory({}, {}), together.names, lambda *_: False))[0]["s9"] == ()

    played(script)


def test_services_that_come_one_after_another_do_not_keep_all_news_away(played, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that is being answered goes on; another one is asked after it."""
    monkeypatch.setattr(limits, "CATALOG_ALONE", 0)

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        together, parse = scene.follower._together, scene.follower._together.parse
        begun: list[int] = []

        async def slowly(answer: Answer):
            name = f"t{len(begun)}"
            begun.append(scene.services()["s4"])
            if len(begun) <= 3:  # before it is taken in there is another service
                register(peer, name)
                await until(lambda: name in together.names, "the next service")
            return await parse(answer)

        monkeypatch.setattr(together, "parse", slowly)
        peer.set("/v1/health/service/s4", [])
        await until(lambda: scene.services().get("t2"), "the last new service")
        assert begun[:2] == [1, 0]

    played(script)


def test_what_cannot_be_taken_is_not_read_by_itself_either(played) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("s9", instance(HOST2, "s9", 70_000))
        await until(lambda: "s9" in scene.follower._together.listed.refused, "the answer")
        await until(lambda: not any("s9" in path for path in scene.follower._watches), "the end of its own questions")
        assert not scene.follower._together.is_outdated((), ())

    played(script)


@pytest.mark.parametrize(
    ("status", "text"), [(404, ""), (501, "not implemented"), (403, "Endpoint is blocked by agent configuration"), (200, "[" * 2000)]
)
def test_where_nobody_gives_it_each_is_read_by_itself_until_somebody_does(played, monkeypatch, status: int, text: str) -> None:
    """An older embedded catalog, a Consul that was told to block it, an answer that is too long."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        assert scene.watched() == {"s0", "s1"}
        monkeypatch.setattr(limits, "CATALOG_BODY_BYTES", 1500)
        peer.scripts[INVENTORY] = lambda _: web.Response(status=status, text=text)
        peer.set("/v1/health/service/s4", [])
        await until(lambda: scene.services()["s4"] == 0, "the change of a polled one")
        assert "3 services read one by one, the others watched" in scene.follower.found
        assert scene.follower.complaints() == ()
        assert set(scene.asked("/v1/health/service/s4")) == {""}
        del peer.scripts[INVENTORY]
        await until(lambda: "3 services read in one answer, the others watched" in scene.follower.found, "the one answer")
        await until(lambda: len(scene.follower._watches) == limits.CATALOG_WATCHES - 3, "the end of the polls")

    played(script)


@pytest.mark.parametrize("status", [500, 403])
def test_a_catalog_that_fails_or_refuses_the_token_is_not_asked_for_each(played, status: int) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts[INVENTORY] = lambda _: web.Response(status=status, text="ACL not found")
        peer.set("/v1/health/service/s4", [])
        await until(scene.follower.complaints, "the complaint")
        assert str(status) in scene.follower.complaints()[0]
        assert scene.asked("/v1/health/service/s4") == []
        assert scene.services()["s4"] == 1

    played(script)


def test_what_the_one_answer_lost_is_held_back_as_ever(played) -> None:
    """And the catalog is asked for proof once for all, where it is an embedded one."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        many = [instance(HOST2, "s4", 5000 + n, f"s4-{n}") for n in range(4)]
        peer.register("s4", *many)
        await until(lambda: scene.services()["s4"] == 4, "four instances")
        peer.set("/v1/health/service/s4", many[:1])
        await until(scene.follower.alarms, "the alarm")
        assert scene.services()["s4"] == 4
        scene.elapsed += limits.HOLD_BACK_S
        await until(lambda: scene.services()["s4"] == 1, "the end of the hold")
        peer.set(NODES, [HOST2])
        peer.scripts["/v1/catalog/register"] = lambda _: web.Response(status=403, text="no")
        peer.values[INVENTORY] = peer.index + 1, []
        peer.set(SELF, {"Config": {"NodeName": "", "Datacenter": "dc1"}})
        await until(lambda: set(scene.follower.held) == {"s2", "s3", "s4"}, "what is held")
        assert scene.services() == {"s0": 1, "s1": 1, "s2": 1, "s3": 1, "s4": 1}

    played(script)


def test_a_row_that_cannot_be_taken_is_its_service_s_alone(played) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("s4", instance(HOST2, "s4", 70_000))
        peer.set("/v1/health/service/s3", [])
        await until(lambda: scene.services()["s3"] == 0, "the other's change")
        assert scene.services()["s4"] == 1
        await until(lambda: any("70000" in why for why in scene.follower.complaints()), "the complaint")

    played(script)


def test_a_restarted_agent_goes_on_by_what_was_saved_of_a_row_that_cannot_be_taken(played) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        state = scene.follower.state()
        assert state is not None
        peer.register("s4", instance(HOST2, "s4", 70_000))
        second = Scene(peer)
        second.follower.remember(state)
        async with second.catalog:
            task = asyncio.create_task(second.follower.run())
            await until(lambda: second.services().get("s4") == 1, "the saved one")
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    played(script)


def test_nothing_is_read_alone_before_the_first_answer() -> None:
    together = Together(Catalog(CatalogTable("http://127.0.0.1:1"), lambda: 0.0), Seen(), lambda: None)
    together.names = frozenset({"web"})
    assert together.alone() == frozenset()
    assert not together.is_outdated({"web"}, ())
    together.is_served = False
    assert together.alone() == {"web"}


def test_the_loop_gets_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DECODE_ROWS", 2)

    async def scene() -> None:
        turns: list[str] = []
        other = asyncio.create_task(asyncio.sleep(0), name="other")
        other.add_done_callback(lambda _: turns.append("other"))
        async for name in in_turns(["a", "b", "c", "d", "e"]):
            turns.append(name)  # noqa: PERF401 - an asynchronous comprehension would hide the turns
        assert turns.index("other") < turns.index("e")

    run(scene)
