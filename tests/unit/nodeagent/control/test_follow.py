"""From the catalog's answers to the mesh's state, against a scripted catalog."""

import asyncio
import contextlib

import msgspec
import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.catalog.state import CatalogState, parse_instances
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Answer, Catalog
from nodeagent.control.environment import Environment
from nodeagent.control.follow import Follower
from nodeagent.control.lately import there
from nodeagent.errors import CatalogError
from nodeagent.observe.metrics import Metrics
from tests.support.loop import run, until
from tests.support.mesh import config
from tests.support.scripted_catalog import INTENTIONS, NODES, SERVICES, ScriptedCatalog, instance, node

HOST1 = node("host1", "10.77.0.1", "fd77::1")
HOST2 = node("host2", "10.77.0.2", "fd77::2")
CHANGED = Answer(msgspec.json.encode([node("host1", "10.77.0.9"), HOST2]), None)
"""The hosts, this one's row not as it registers itself."""


class Scene:
    """A follower on host1, with a clock of the test's own."""

    def __init__(self, peer: ScriptedCatalog) -> None:
        self.peer = peer
        self.now = 1000.0
        self.elapsed = 1000.0
        env = Environment(lambda: self.now, lambda: 0.0, lambda: self.elapsed)
        self.catalog = Catalog(CatalogTable(peer.address, token_file=""), env.now)
        self.follower = Follower(config(), self.catalog, Metrics("1"), env)

    def services(self) -> dict[str, int]:
        state = self.follower.state()
        found = {name: len(there(rows)) for name, rows in state.instances.items()} if state else {}
        return {name: count for name, count in found.items() if count or name in (self.follower.seen.names or ())}

    def pairs(self) -> list[str]:
        state = self.follower.state()
        return [f"{row.source} -> {row.destination}" for row in state.intentions] if state else []


def played(script) -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer:
            playing = Scene(peer)
            async with playing.catalog:
                peer.set(NODES, [HOST1, HOST2])
                task = asyncio.create_task(playing.follower.run())
                try:
                    await script(playing, peer)
                finally:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    run(scene)


def alone(script) -> None:
    """With a follower that follows nothing by itself."""

    async def scene() -> None:
        async with ScriptedCatalog() as peer:
            playing = Scene(peer)
            async with playing.catalog:
                await script(playing, peer)

    run(scene)


def hang_up(request: web.Request) -> web.Response:
    """No answer, whatever was asked."""
    assert request.transport
    request.transport.abort()
    return web.Response()


def db(count: int) -> list:
    return [instance(HOST2, "db", 5000 + n, f"db{n}") for n in range(count)]


def test_the_state_is_complete_when_every_service_was_heard() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", instance(HOST2, "web", 80))
        peer.allow("shop -> web")
        await until(lambda: scene.services() == {"web": 1}, "the service")
        await until(lambda: scene.pairs() == ["shop -> web"], "the intention")
        state = scene.follower.state()
        assert state is not None
        assert [host.name for host in state.hosts] == ["host1", "host2"]

    played(script)


def test_services_and_instances_are_followed_as_they_come_and_go() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", instance(HOST2, "web", 80))
        await until(lambda: scene.services() == {"web": 1}, "one service")
        peer.register("db", *db(2))
        await until(lambda: scene.services() == {"web": 1, "db": 2}, "two services")
        peer.set("/v1/health/service/web", [])
        peer.set(SERVICES, {"db": []})
        await until(lambda: scene.services() == {"db": 2}, "the single instance is gone at once")
        assert scene.follower.alarms() == ()

    played(script)


def test_a_lost_majority_is_held_back_with_an_alarm_until_the_time_is_over() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("db", *db(4))
        await until(lambda: scene.services() == {"db": 4}, "four instances")
        peer.set("/v1/health/service/db", db(1))
        await until(scene.follower.alarms, "the alarm")
        assert scene.services() == {"db": 4}
        for jump in (3600.0, -10 * 365 * 86_400.0):  # whoever sets the clock ends no hold, and makes none last for ever
            scene.now += jump
            assert scene.services() == {"db": 4}
        scene.elapsed += limits.HOLD_BACK_S
        await until(lambda: scene.services() == {"db": 1}, "the end of the hold")
        await until(lambda: not scene.follower.alarms(), "no alarm any more")

    played(script)


def test_a_catalog_that_does_not_show_this_host_is_not_believed_about_losses() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", instance(HOST2, "web", 80))
        await until(lambda: scene.services() == {"web": 1}, "the service")
        peer.scripts["/v1/catalog/register"] = lambda _: web.Response(status=403, text="no")
        peer.set(NODES, [])
        peer.set("/v1/health/service/web", [])
        peer.set(SERVICES, {})
        await until(lambda: "web" in scene.follower.held, "the alarm")
        assert scene.services() == {"web": 1}
        scene.elapsed += 10 * limits.HOLD_BACK_S
        await until(lambda: sum("/health/service/web" in path for _, path, _ in peer.asked) > 3, "further questions")
        assert scene.services() == {"web": 1}
        state = scene.follower.state()
        assert state is not None
        assert {host.name: host.tunnel_port for host in state.hosts} == {"host1": 15008, "host2": 15008}

    played(script)


def test_an_empty_intention_list_of_the_embedded_catalog_applies_at_once() -> None:
    """It refuses whoever may not read; of a Consul's, test_intention_hold."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.allow("shop -> web")
        await until(lambda: scene.pairs() == ["shop -> web"], "the intention")
        peer.allow()
        await until(lambda: scene.pairs() == [], "no intention")
        assert scene.follower.alarms() == ()

    played(script)


def test_garbage_keeps_what_was_known_and_is_shown() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.allow("shop -> web")
        await until(lambda: scene.pairs() == ["shop -> web"], "the intention")
        peer.set(INTENTIONS, [{"Name": "web", "Sources": [{"Name": "shop", "Action": "perhaps"}]}])
        await until(scene.follower.complaints, "the complaint")
        assert scene.pairs() == ["shop -> web"]
        assert "perhaps" in scene.follower.complaints()[0]

    played(script)


def test_this_host_registers_itself_and_again_when_its_row_was_lost() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        for number in (1, 2):
            peer.set(NODES, [HOST2])
            await until(lambda now=number: len(peer.written) == now, "the registration")
            await until(lambda: {host.name for host in scene.follower.seen.hosts} == {"host1", "host2"}, "it is seen")
        assert peer.written[0][1]["NodeMeta"] == {"nodeagent": "15008;v1"}
        scene.elapsed += 60
        peer.set(NODES, [HOST2, node("host1", "10.77.0.1", "fd77::1", marker="")])
        await until(lambda: len(peer.written) == 3, "the marker is put back")

    played(script)


def test_two_machines_of_one_name_do_not_replace_each_other_for_ever() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.set(NODES, [HOST2])
        await until(lambda: len(peer.written) == 1, "the registration")
        peer.set(NODES, [HOST2, node("host1", "10.77.0.9")])
        await until(lambda: "another machine" in scene.follower.pulse_error, "the complaint")
        assert len(peer.written) == 1
        scene.elapsed += 60
        await until(lambda: len(peer.written) == 2, "the next try, a minute later")

    played(script)


def test_a_refused_registration_stops_nothing_else() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts["/v1/catalog/register"] = lambda _: web.Response(status=403, text="not yours")
        peer.set(NODES, [HOST2])
        await until(lambda: scene.follower.pulse_error, "the complaint")
        assert "could not be registered" in scene.follower.pulse_error
        await until(scene.follower.state, "the state all the same")

    played(script)


def test_a_refused_registration_is_nobody_elses_deed() -> None:
    """The row is there and differs: the catalog's reason stays in sight, and no other machine is blamed."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts["/v1/catalog/register"] = lambda _: web.Response(status=403, text="not yours")
        for address in ("10.9.9.1", "10.9.9.2", "10.9.9.3"):
            peer.set(NODES, [node("host1", address), HOST2])
            await until(scene.follower.state, "the state all the same")
        await until(lambda: scene.follower.pulse_error, "the complaint")
        assert "could not be registered" in scene.follower.pulse_error

    played(script)


def test_a_registration_that_never_left_this_host_is_nobody_elses_deed_and_is_tried_at_once() -> None:
    """As at a first start with Consul, whose own row of this host lacks our marker."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        await peer._site.stop()
        for _ in range(2):
            with pytest.raises(CatalogError, match=r"could not be registered: .* cannot be reached"):
                await scene.follower._take_hosts(CHANGED)
        await peer.open(peer.port)
        await scene.follower._take_hosts(CHANGED)
        assert [path for path, _ in peer.written] == ["/v1/catalog/register"]

    alone(script)


def test_a_registration_without_an_answer_blames_no_machine_alone() -> None:
    """It may have been written, and is not written again at once; after an answer a change is somebody's again."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts["/v1/catalog/register"] = hang_up
        with pytest.raises(CatalogError, match="could not be registered"):
            await scene.follower._take_hosts(CHANGED)
        asked = len(peer.asked)  # twice: aiohttp asks again where a connection ends
        with pytest.raises(CatalogError, match="got no answer, or another machine"):
            await scene.follower._take_hosts(CHANGED)
        assert len(peer.asked) == asked
        del peer.scripts["/v1/catalog/register"]
        scene.elapsed += limits.CATALOG_COMPLAIN_S
        await scene.follower._take_hosts(CHANGED)
        with pytest.raises(CatalogError, match="was changed by somebody"):
            await scene.follower._take_hosts(CHANGED)

    alone(script)


def test_silence_of_the_catalog_is_a_loss_too() -> None:
    async def script(scene: Scene, _peer: ScriptedCatalog) -> None:
        await until(lambda: scene.catalog.answered_at, "an answer")
        assert scene.follower.lost_since is None
        scene.now += 100
        assert scene.follower.lost_since is not None
        assert "has not answered" in scene.follower.why_lost

    played(script)


def too_many(_request: web.Request) -> web.Response:
    return web.Response(text="[{}]")


def filtered(*rows: str) -> web.Response:
    entries = [{"Name": "web", "Sources": [{"Name": row, "Action": "allow"}]} for row in rows]
    return web.json_response(entries, headers={"X-Consul-Results-Filtered-By-ACLs": "true", "X-Consul-Index": "99"})


def test_a_new_service_that_cannot_be_read_stops_no_change_of_the_others() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", instance(HOST2, "web", 80))
        peer.allow("shop -> web")
        await until(lambda: scene.pairs() == ["shop -> web"], "the intention")
        peer.scripts["/v1/health/service/bad"] = too_many
        peer.register("bad", instance(HOST2, "bad", 81))
        peer.allow()
        await until(lambda: scene.pairs() == [] and scene.services() == {"web": 1}, "the change")
        await until(lambda: any("/bad" in text for text in scene.follower.complaints()), "the complaint")
        peer.scripts.clear()
        await until(lambda: scene.services() == {"web": 1, "bad": 1}, "the new one, once it can be read")

    played(script)


def test_without_anything_saved_the_first_state_waits_for_every_service() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts["/v1/health/service/bad"] = too_many
        peer.register("web", instance(HOST2, "web", 80))
        peer.register("bad", instance(HOST2, "bad", 81))
        await until(lambda: any("/bad" in text for text in scene.follower.complaints()), "the complaint")
        await until(lambda: "web" in scene.follower.seen.instances, "the other one")
        assert scene.follower.state() is None

    played(script)


def test_after_a_restart_a_service_that_cannot_be_read_is_as_it_was_saved() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        saved = parse_instances("bad", msgspec.json.encode([instance(HOST2, "bad", 81)]))
        scene.follower.remember(CatalogState(instances={"bad": saved}))
        peer.scripts["/v1/health/service/bad"] = too_many
        peer.register("web", instance(HOST2, "web", 80))
        peer.register("bad", instance(HOST2, "bad", 81), instance(HOST2, "bad", 82, "two"))
        await until(lambda: scene.services() == {"web": 1, "bad": 1}, "the state, with what was saved")
        peer.scripts.clear()
        await until(lambda: scene.services() == {"web": 1, "bad": 2}, "the truth")

    played(script)


@pytest.mark.parametrize("left", [(), ("cart",)])
def test_filtered_intentions_are_held_whatever_is_left_of_them(left: tuple[str, ...]) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.allow("shop -> web", "cart -> web")
        await until(lambda: len(scene.pairs()) == 2, "the intentions")
        peer.scripts[INTENTIONS] = lambda _: filtered(*left)
        peer.set(INTENTIONS, peer.values[INTENTIONS][1])  # who waits there asks again
        await until(scene.follower.alarms, "the alarm")
        assert "intentions:read" in scene.follower.alarms()[0]
        assert sorted(scene.pairs()) == ["cart -> web", "shop -> web"]

    played(script)


def test_filtered_intentions_are_no_beginning_either() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts[INTENTIONS] = lambda _: filtered("cart")
        await until(scene.follower.alarms, "the alarm")
        assert scene.follower.state() is None

    played(script)


def test_a_name_that_no_tunnel_could_carry_is_known_and_left_out() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("Web", instance(HOST2, "Web", 80))
        await until(lambda: scene.follower.seen.unusable == ("Web",), "the name")
        assert scene.services() == {}

    played(script)


def test_the_hosts_are_asked_for_at_least_twice_a_minute() -> None:
    """The answers show that the catalog lives, whether or not anything changed."""
    waits: set[str] = set()

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts[NODES] = lambda request: waits.add(request.query.get("wait", "")) or None
        peer.set(NODES, [HOST1])
        await until(lambda: waits - {""}, "a query that blocks")

    played(script)
    assert waits - {""} == {f"{limits.CATALOG_PULSE_WAIT_S:.0f}s"}


def test_who_is_watched_is_looked_at_when_an_answer_may_change_it(monkeypatch) -> None:
    """An instance that becomes ill does not; the first of a service that had none, and one on this host, do."""
    looked: list[int] = []
    real = Follower._nearest
    monkeypatch.setattr(Follower, "_nearest", lambda self, names: (looked.append(1), real(self, names))[1])

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", instance(HOST2, "web", 80))
        await until(lambda: scene.services() == {"web": 1}, "the state")
        await until(lambda: not scene.follower._services_changed.is_set(), "that was looked at")
        for rows, is_looked in (
            ([instance(HOST2, "web", 81)], False),
            ([instance(HOST2, "web", 81), instance(HOST1, "web", 80)], True),
            ([instance(HOST1, "web", 82)], False),
            ([], True),
        ):
            looked.clear()
            scene.follower.changed.clear()
            peer.set("/v1/health/service/web", rows)
            await scene.follower.changed.wait()
            assert is_looked == (bool(looked) or scene.follower._services_changed.is_set())
            await until(lambda: not scene.follower._services_changed.is_set(), "that was looked at")

    played(script)
