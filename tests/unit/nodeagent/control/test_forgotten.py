"""What runs on this host though the catalog has it no more."""

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.control.forgotten import LOCAL, Forgotten
from nodeagent.errors import CatalogError
from tests.support.loop import until
from tests.support.mesh import HOST1 as HERE
from tests.support.mesh import HOST2 as THERE
from tests.support.mesh import instance as row
from tests.support.scripted_catalog import NODES, SELF, SERVICES, ScriptedCatalog, instance
from tests.support.scripted_rights import CONSUL
from tests.unit.nodeagent.control.test_follow import HOST1, HOST2, Scene, alone, played

SHOP = row(HERE, 9000, id_="shop")
GONE = "/v1/health/service/shop"


def kept(scene: Scene) -> Forgotten:
    return Forgotten(scene.catalog, scene.follower._announcer, "host1")


@pytest.mark.parametrize(
    ("local", "is_kept"),
    [({"shop": {"Service": "shop"}}, True), ({"shop": {"Service": "Shop"}}, True), ({"shop": {"Service": "web"}}, False), ({}, False)],
)
def test_what_the_consul_agent_of_this_host_still_has_is_here(local, *, is_kept: bool) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.set(SELF, CONSUL)
        peer.set(LOCAL, local)
        found = await kept(scene).kept("shop", (SHOP, row(THERE, 9000)), "")
        assert found.rows == ((SHOP,) if is_kept else ())
        assert ("this host's Consul agent still has it" in found.why) == is_kept

    alone(script)


def test_without_proof_that_it_is_lost_it_is_here() -> None:
    async def script(scene: Scene, _: ScriptedCatalog) -> None:
        found = await kept(scene).kept("shop", (SHOP,), "the token may not")
        assert (found.rows, "the token may not" in found.why) == ((SHOP,), True)

    alone(script)


@pytest.mark.parametrize("has_agent", [False, True])
def test_a_catalog_that_may_be_an_older_one_takes_nothing_away_that_hosts_alone_tell_it(*, has_agent: bool) -> None:
    """A Consul agent knows by itself what is here."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        if has_agent:
            peer.set(SELF, CONSUL)
            peer.set(LOCAL, {})
        found = await kept(scene).kept("shop", (SHOP,), "", "it was away")
        assert (found.rows, "it was away" in found.why) == (((), False) if has_agent else ((SHOP,), True))

    alone(script)


@pytest.mark.parametrize(("service", "lost"), [("web", (row(THERE, 80),)), ("nodeagent", (SHOP,)), ("shop", ())])
def test_nobody_is_asked_for_what_is_not_of_this_host(service: str, lost) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        assert await kept(scene).kept(service, lost, "the token may not") == ((), "")
        assert peer.asked == []

    alone(script)


def test_an_agent_that_says_nonsense_takes_nothing_away() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.set(SELF, CONSUL)
        peer.scripts[LOCAL] = lambda _: web.Response(text='{"shop": 1}')
        with pytest.raises(CatalogError, match=LOCAL):
            await kept(scene).kept("shop", (SHOP,), "")

    alone(script)


def test_a_service_of_this_host_that_is_deregistered_is_gone_at_once() -> None:
    """Where the embedded catalog showed this host all the time."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("shop", instance(HOST1, "shop", 9000))
        await until(lambda: scene.services() == {"shop": 1}, "the service")
        peer.set(GONE, [])
        peer.set(SERVICES, {})
        await until(lambda: scene.services() == {}, "its end")
        assert scene.follower.alarms() == ()

    played(script)


def test_a_restart_does_not_make_proof_of_it() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("shop", instance(HOST1, "shop", 9000))
        await until(lambda: scene.services() == {"shop": 1}, "the service")
        peer.set(NODES, [HOST2])
        await until(lambda: (state := scene.follower.state()) and state.is_forgotten, "it was forgotten")
        peer.set(GONE, [])
        await until(lambda: "shop" in scene.follower.held, "the alarm")
        saved = scene.follower.state()
        assert saved
        again = Scene(peer)
        again.follower.remember(saved)
        async with again.catalog:
            found = await kept(again).kept("shop", saved.instances["shop"], "")
            assert (found.rows, "had forgotten this host" in found.why) == (saved.instances["shop"], True)
            again.elapsed += limits.HOLD_BACK_S
            assert await kept(again).kept("shop", saved.instances["shop"], "") == ((), "")

    played(script)


def test_a_host_that_the_catalog_forgot_is_no_proof_of_what_it_registers_itself() -> None:
    """The agent puts its own row back at once; its services stay protected for HOLD_BACK_S, however few they are."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.register("shop", instance(HOST1, "shop", 9000))
        await until(lambda: scene.services() == {"shop": 1}, "the service")
        peer.set(NODES, [HOST2])
        await until(lambda: any(each["Node"] == "host1" for each in peer.values[NODES][1]), "the registration anew")
        peer.set(GONE, [])
        peer.set(SERVICES, {})
        await until(lambda: "shop" in scene.follower.held, "the alarm")
        assert "had forgotten this host, which was registered anew" in scene.follower.held["shop"]
        assert scene.services() == {"shop": 1}
        scene.elapsed += limits.HOLD_BACK_S
        await until(lambda: scene.services() == {}, "its end")
        assert not scene.follower.held

    played(script)
