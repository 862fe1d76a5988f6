"""What is in force of a service whose answer lacks instances."""

from nodeagent import limits
from nodeagent.catalog.state import CatalogState
from tests.support.loop import until
from tests.support.mesh import HOST2 as THERE
from tests.support.mesh import instance as row
from tests.support.scripted_catalog import NODES, SERVICES, ScriptedCatalog, instance
from tests.unit.nodeagent.control.test_follow import HOST1, HOST2, Scene, db, played

HEALTH = "/v1/health/service/web"


def marked(scene: Scene) -> dict[str, list[bool]]:
    """Of each service, which instances are gone."""
    state = scene.follower.state()
    assert state is not None
    return {name: [each.instance.gone for each in rows] for name, rows in state.instances.items() if rows}


async def lose_web(scene: Scene, peer: ScriptedCatalog) -> None:
    peer.set(HEALTH, [])
    peer.set(SERVICES, {})
    await until(lambda: marked(scene) == {"web": [True]}, "it is gone, and stands for its address")


def test_a_single_instance_that_vanished_stands_for_its_address_for_its_time() -> None:
    """In silence where it was deregistered, as happens daily."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", instance(HOST2, "web", 80))
        await until(lambda: scene.services() == {"web": 1}, "the service")
        await lose_web(scene, peer)
        assert (scene.follower.alarms(), scene.follower.losses.is_waiting) == ((), True)
        scene.elapsed += limits.HOLD_BACK_S
        assert marked(scene) == {}
        assert not scene.follower.losses.is_waiting

    played(script)


def test_one_that_went_with_its_host_is_an_alarm_also_where_half_of_a_service_is_left() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", instance(HOST1, "web", 80), instance(HOST2, "web", 80))
        await until(lambda: scene.services() == {"web": 2}, "the service")
        peer.set(NODES, [HOST1])
        peer.set(HEALTH, [instance(HOST1, "web", 80)])
        await until(lambda: any("web: its instances on host2 vanished with the host" in text for text in scene.follower.alarms()), "the alarm")
        assert marked(scene) == {"web": [False, True]}
        peer.set(NODES, [HOST1, HOST2])
        peer.set(HEALTH, [instance(HOST1, "web", 80), instance(HOST2, "web", 80)])
        await until(lambda: marked(scene) == {"web": [False, False]} and not scene.follower.alarms(), "it is back")

    played(script)


def test_what_went_while_nobody_was_here_stands_for_its_address_too() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        scene.follower.remember(CatalogState(instances={"web": (row(THERE, 80),)}))
        peer.register("db", *db(1))
        await until(lambda: scene.services() == {"db": 1} and marked(scene) == {"db": [False], "web": [True]}, "both")
        assert scene.follower.alarms() == ()

    played(script)


def test_the_time_does_not_run_out_while_the_catalog_is_out_of_reach() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("web", instance(HOST2, "web", 80))
        await until(lambda: scene.services() == {"web": 1}, "the service")
        await lose_web(scene, peer)
        scene.catalog.failing_since = scene.now
        scene.elapsed += 2 * limits.HOLD_BACK_S
        assert marked(scene) == {"web": [True]}
        scene.catalog.failing_since = None
        scene.elapsed += limits.HOLD_BACK_S
        assert marked(scene) == {}

    played(script)
