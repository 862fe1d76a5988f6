"""News of a host ahead of their time, as control reads them from a scripted catalog."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.control import follow
from nodeagent.control.watch import Rhythm
from tests.support.first_use_scene import HOST1, HOST2, HOST3, Scene, SlowCatalog, move
from tests.support.loop import run, until
from tests.support.scripted_catalog import NODE, NODES, instance

WATCHED = 2
FAR = "/v1/health/service/s4"


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Of five services, s0 to s4, WATCHED are watched."""
    monkeypatch.setattr(limits, "CATALOG_WATCHES", follow._OTHER_WATCHES + WATCHED + 2)
    monkeypatch.setattr(follow, "_LONG", Rhythm(rest_s=3600.0))

    def play(script: Callable[[Scene], Awaitable[None]], *, services: int = 5) -> None:
        async def scene() -> None:
            async with SlowCatalog() as peer:
                peer.has_inventory = True
                peer.set(NODES, [HOST1, HOST2, HOST3])
                for number in range(services):
                    peer.register(f"s{number}", instance(HOST2, f"s{number}", 80 + number))
                playing = Scene(peer)
                async with playing.catalog:
                    parts = (playing.follower.run, playing.first_use.run, playing.publish)
                    tasks = [asyncio.create_task(part()) for part in parts]
                    try:
                        await until(lambda: len(playing.in_force) == services, "all services")
                        await script(playing)
                    finally:
                        for task in tasks:
                            task.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await asyncio.gather(*tasks)

        run(scene)

    return play


def test_a_new_instance_is_in_force_when_the_answer_comes(played) -> None:
    """Of a service that is watched from then on."""

    async def script(scene: Scene) -> None:
        assert scene.follower.is_late
        move(scene)
        await scene.ask().wait()
        assert scene.in_force["s4"] == 2
        assert FAR in scene.follower._watches
        scene.peer.set(FAR, [instance(HOST2, "s4", 84)])
        await until(lambda: scene.known() == 1, "what the watch tells")

    played(script)


def test_a_new_instance_of_a_service_that_cannot_be_watched_is_read_all_the_same(played) -> None:
    """More are called than can be."""

    async def script(scene: Scene) -> None:
        scene.follower.note_calls({"s0", "s1"})
        move(scene)
        await scene.ask().wait()
        assert scene.in_force["s4"] == 2
        assert FAR not in scene.follower._watches

    played(script)


def test_a_service_whose_watch_has_not_told_it_yet_is_waited_for(played) -> None:
    """The watch has just begun, or had so much news that it rests."""

    async def script(scene: Scene) -> None:
        scene.follower.note_calls({"s4"})
        move(scene)
        await scene.ask().wait()
        assert scene.in_force["s4"] == 2
        await until(lambda: scene.waits(FAR), "the watch's next question")
        move(scene, 9002)
        answered = scene.ask(9002)
        await until(lambda: scene.asked() == 2 and not scene.first_use._turns.qsize(), "the question")
        assert not answered.is_set()
        scene.peer.set(FAR, scene.peer.values[FAR][1])
        await answered.wait()
        assert scene.in_force["s4"] == 3

    played(script)


def test_news_that_come_while_others_are_put_into_force_are_waited_for(played) -> None:
    """What is on its way is none of them, and its end is not theirs."""

    async def script(scene: Scene) -> None:
        scene.may_publish.clear()
        scene.peer.set("/v1/health/service/s0", [instance(HOST2, "s0", 70)])
        await until(lambda: scene.is_publishing, "another change on its way")
        move(scene)
        answered = scene.ask()
        await until(lambda: scene.known() == 2 and scene.first_use.rounds._bell._resting, "the news, and who waits for them")
        scene.may_publish.set()
        scene.may_publish.clear()
        await until(lambda: not scene.follower.changed.is_set(), "their own round")
        assert not answered.is_set()
        scene.may_publish.set()
        await answered.wait()
        assert scene.in_force["s4"] == 2

    played(script)


def test_news_on_their_way_when_a_call_comes_are_waited_for(played) -> None:
    """They are known, and in force only then."""

    async def script(scene: Scene) -> None:
        scene.follower.note_calls({"s4"})
        await until(lambda: scene.waits(FAR), "the watch")
        scene.may_publish.clear()
        move(scene)
        scene.peer.set(FAR, scene.peer.values[FAR][1])
        await until(lambda: scene.known() == 2 and scene.is_publishing and not scene.follower.changed.is_set(), "news on their way")
        answered = scene.ask()
        await until(lambda: answered.is_set() or scene.first_use.rounds._bell._resting, "who waits for them")
        assert not answered.is_set()
        scene.may_publish.set()
        await answered.wait()
        assert scene.in_force["s4"] == 2

    played(script)


def test_what_a_peer_calls_here_is_looked_for_by_its_name(played) -> None:
    async def script(scene: Scene) -> None:
        path = "/v1/health/service/s4"
        scene.peer.values[path] = scene.peer.index, [*scene.peer.values[path][1], instance(HOST1, "s4", 80)]
        await scene.ask("s4", host="host1").wait()
        assert scene.in_force["s4"] == 2

    played(script)


def test_names_that_peers_make_up_are_asked_for_seldom(played, monkeypatch: pytest.MonkeyPatch) -> None:
    """And take no turn of this host's own calls: whoever reaches an agent may name any service."""
    monkeypatch.setattr(limits, "FIRST_USE_HERE_PER_S", 0.001)
    monkeypatch.setattr(limits, "FIRST_USE_HERE_BURST", 2)

    async def script(scene: Scene) -> None:
        before = scene.asked("host1")
        for number in range(2):
            await scene.ask(f"made-up-{number}", host="host1").wait()
        late = [scene.ask(f"made-up-{number}", host="host1") for number in range(2, 50)]
        move(scene)
        await scene.ask().wait()
        assert (scene.in_force["s4"], scene.asked("host1") - before) == (2, 2)
        assert not any(each.is_set() for each in late)

    played(script)


@pytest.mark.parametrize("status", [200, 403])
def test_a_service_of_which_an_answer_cannot_be_taken_is_not_waited_for(played, status: int) -> None:
    """A row is odd, or the token may not read it."""

    async def script(scene: Scene) -> None:
        odd = instance(HOST2, "s4", 9001)
        odd["Service"]["Address"] = "a b!"
        scene.peer.values[FAR] = scene.peer.index, [odd]
        if status != 200:
            scene.peer.scripts[FAR] = lambda _: web.Response(status=status)
        with capture_logs() as log:
            await scene.ask().wait()
        assert scene.known() == 1
        assert "first_use_not_read" not in {line["event"] for line in log}, "it was answered before its time was over"

    played(script)


def test_where_all_is_watched_nobody_is_asked(played) -> None:
    """Nor about what is no host of the mesh, nor while the catalog is away."""

    async def script(scene: Scene) -> None:
        assert scene.ask().is_set() is not scene.follower.is_late
        assert scene.ask(host="elsewhere").is_set()
        scene.catalog.is_away = True
        assert scene.ask(host="host3").is_set()
        assert scene.asked("elsewhere") + scene.asked("host3") == 0

    played(script, services=2)
    played(script)


def test_it_is_asked_while_another_question_hangs(played) -> None:
    """A leaf, say: the catalog is there."""

    async def script(scene: Scene) -> None:
        await scene.catalog._fail(TimeoutError(), "/v1/agent/connect/ca/leaf/web")
        move(scene)
        await scene.ask().wait()
        assert scene.in_force["s4"] == 2

    played(script)


def test_who_comes_while_a_host_is_asked_about_waits_for_one_more_answer(played) -> None:
    """The first may be older than what is called; however many come, there is one at a time."""

    async def script(scene: Scene) -> None:
        scene.peer.may_answer.clear()
        first = scene.ask()
        await until(lambda: scene.asked() == 1, "the question")
        move(scene, 9002)
        others = [scene.ask(port) for port in range(9002, 9050)]
        scene.peer.may_answer.set()
        await first.wait()
        assert not any(each.is_set() for each in others)
        for each in others:
            await each.wait()
        assert (scene.asked(), scene.in_force["s4"]) == (2, 2)

    played(script)


def test_what_the_catalog_does_not_show_takes_nothing_away(played) -> None:
    """Neither a host that is null to this token, nor a service without instances."""

    async def script(scene: Scene) -> None:
        scene.peer.scripts[NODE + "host2"] = lambda _: web.json_response(None)
        await scene.ask(84).wait()
        scene.peer.scripts.clear()
        scene.peer.scripts[FAR] = lambda _: web.json_response([])
        scene.peer.scripts["/v1/agent/self"] = lambda _: web.json_response({"Config": {"NodeName": "host1"}, "Member": {}, "NodeID": "x"})
        scene.peer.scripts["/v1/discovery-chain/s4"] = lambda _: web.Response(status=403, text="Permission denied")
        await scene.ask(84).wait()
        assert (scene.asked(), scene.known(), scene.in_force["s4"]) == (2, 1, 1)

    played(script)


def test_a_catalog_that_fails_answers_all_the_same_and_is_complained_of_once(played) -> None:
    async def script(scene: Scene) -> None:
        scene.peer.scripts[NODE + "host2"] = lambda _: web.Response(status=500, text="rpc error")
        with capture_logs() as log:
            for port in (9001, 9002):
                await scene.ask(port).wait()
        (line,) = [line for line in log if line["event"] == "first_use_not_read"]
        assert (line["host"], "rpc error" in line["error"]) == ("host2", True)
        assert scene.known() == 1

    played(script)


def test_a_slow_catalog_is_not_waited_for(played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_USE_S", 0.05)

    async def script(scene: Scene) -> None:
        scene.peer.may_answer.clear()
        await scene.ask().wait()
        await until(lambda: not scene.first_use._asking, "the end of the question")
        assert scene.ask(host="host3").is_set(), "nor is it for what else it may be asked"
        assert scene.known() == 1
        scene.peer.may_answer.set()

    played(script)


def test_a_port_that_does_not_come_into_force_takes_no_others_time(played, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are asked about as ever."""
    monkeypatch.setattr(limits, "FIRST_USE_S", 1.0)

    async def script(scene: Scene) -> None:
        scene.may_publish.clear()
        move(scene)
        with capture_logs() as log:
            await scene.ask().wait()
        await until(lambda: not scene.first_use._asking, "the end of the question")
        assert not scene.ask(host="host3").is_set()
        assert {line["error"] for line in log if line["event"] == "first_use_not_read"} == {"what it said is not in force in time"}
        scene.may_publish.set()

    played(script)


def test_who_waits_for_a_turn_waits_no_longer_than_others(played, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker must hear of it before it takes control for hanging."""
    monkeypatch.setattr(limits, "FIRST_USE_S", 0.05)

    async def script(scene: Scene) -> None:
        for _ in range(limits.FIRST_USE_AT_ONCE):
            await scene.first_use._room.acquire()
        await scene.ask().wait()
        assert scene.asked() == 0

    played(script)


@pytest.mark.parametrize("is_paced", [True, False])
def test_only_so_many_are_asked_about_at_once_and_only_so_many_wait(played, monkeypatch: pytest.MonkeyPatch, is_paced: bool) -> None:  # noqa: FBT001 - a table's column
    """The others are answered at once: their calls go on by what is known."""
    monkeypatch.setattr(limits, "FIRST_USE_BURST", 1 if is_paced else 1000)
    monkeypatch.setattr(limits, "FIRST_USE_AT_ONCE", 1000 if is_paced else 1)
    monkeypatch.setattr(limits, "FIRST_USE_PER_S", 0.001)
    monkeypatch.setattr(limits, "FIRST_USE_HOSTS", 2)

    async def script(scene: Scene) -> None:
        scene.peer.may_answer.clear()
        scene.ask()
        await until(lambda: scene.asked() == 1 and not scene.first_use._wanted, "the first question")
        waiting = [scene.ask(host="host3"), scene.ask(host="host4")]
        assert scene.ask(host="host5").is_set()
        assert scene.first_use._wanted.keys() == {"host3", "host4"}
        await until(lambda: not scene.first_use._turns.qsize(), "the turn of the others")
        assert not any(each.is_set() for each in waiting)
        assert scene.asked("host3") == 0
        scene.peer.may_answer.set()

    played(script)


def test_only_so_many_wait_for_one_host(played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_USE_KEPT", 2)

    async def script(scene: Scene) -> None:
        asked = [scene.ask(port) for port in (1, 2, 3)]
        assert [each.is_set() for each in asked] == [False, False, True]
        for each in asked:
            await each.wait()

    played(script)


def test_after_a_failure_who_waits_is_asked_about_again(played) -> None:
    """As after any part of control has failed."""

    async def script(scene: Scene) -> None:
        waiting = scene.ask()
        first_use = scene.first_use
        again = asyncio.create_task(first_use.run())
        await waiting.wait()
        again.cancel()
        assert not first_use._wanted

    played(script)
