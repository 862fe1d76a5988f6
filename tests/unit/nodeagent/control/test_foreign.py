"""Another cluster at the same address."""

import pytest
from aiohttp import web

from nodeagent.control.foreign import Foreign
from nodeagent.control.intentions import ENTRIES
from nodeagent.errors import CatalogError
from tests.support.loop import until
from tests.support.scripted_catalog import DOMAIN, INTENTIONS, ROOTS, SERVICES, ScriptedCatalog, instance
from tests.unit.nodeagent.control.test_follow import HOST1, HOST2, Scene, alone, played

OTHER = "99999999-2222-3333-4444-555555555555.consul"


def refused(text: str):
    return lambda _: web.Response(status=500, text=text)


@pytest.mark.parametrize(("known", "is_foreign"), [("", False), (DOMAIN, False), (OTHER, True)])
def test_another_trust_domain_than_the_one_in_force_is_another_catalog(known: str, *, is_foreign: bool) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        foreign = Foreign(scene.catalog)
        foreign.known = lambda: known
        why = await foreign.why()
        assert (f"its trust domain is {DOMAIN} now, and {known} is in force" in why) == is_foreign
        assert bool(peer.asked) == bool(known)

    alone(script)


def test_a_catalog_with_connect_switched_off_is_no_other_one_and_one_that_fails_proves_nothing() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        foreign = Foreign(scene.catalog)
        foreign.known = lambda: DOMAIN
        peer.scripts[ROOTS] = refused("Connect must be enabled in order to use this endpoint")
        assert await foreign.why() == ""
        peer.scripts[ROOTS] = refused("no cluster trust domain setup")
        with pytest.raises(CatalogError, match="no cluster trust domain"):
            await foreign.why()

    alone(script)


def test_of_another_cluster_nothing_is_believed_until_its_trust_domain_is_in_force() -> None:
    """Neither that services are gone, nor protocols, nor intentions; what it denies beyond that counts."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        domain = DOMAIN
        scene.follower.foreign.known = lambda: domain
        peer.register("web", instance(HOST2, "web", 80))
        peer.register("shop", instance(HOST1, "shop", 9000))
        peer.set("/v1/config/service-defaults", [{"Name": "web", "Protocol": "http"}])
        peer.allow("shop -> web", "cart -> shop")
        await until(lambda: scene.services() == {"web": 1, "shop": 1} and len(scene.pairs()) == 2, "the mesh")
        domain = OTHER  # as if the catalog's were another
        for path in ("/v1/health/service/web", "/v1/health/service/shop", "/v1/config/service-defaults"):
            peer.set(path, [])
        peer.set(SERVICES, {})
        deny = {"Name": "shop", "Action": "deny"}
        peer.set(INTENTIONS, [{"Kind": "service-intentions", "Name": "web", "Sources": [deny, {"Name": "evil", "Action": "allow"}]}])
        await until(lambda: {"web", "shop"} <= scene.follower.held.keys(), "the alarms")
        await until(lambda: any("it is another catalog" in text and "intentions" in text for text in scene.follower.alarms()), "the alarm")
        state = scene.follower.state()
        assert state is not None
        assert {f"{row.source} -> {row.destination} {row.action}" for row in state.intentions} == {"cart -> shop allow", "shop -> web deny"}
        assert (scene.services(), state.protocols) == ({"web": 1, "shop": 1}, {"web": "http"})
        assert any(path == ENTRIES for _, path, _ in peer.asked)
        domain = DOMAIN
        await until(lambda: sorted(scene.pairs()) == ["evil -> web", "shop -> web"], "what it says counts", 30)
        await until(lambda: scene.services() == {} and not scene.follower.held, "its services, too", 30)

    played(script)
