"""Hosts that are hidden from a token are told from hosts that are gone, against a scripted Consul."""

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog
from nodeagent.control.hidden import HiddenHosts, why_hidden
from nodeagent.control.token_rights import AUTHORIZE
from tests.support.authorized import Authorized
from tests.support.loop import run, until
from tests.support.scripted_catalog import NODES, ScriptedCatalog, instance
from tests.unit.nodeagent.control.test_follow import HOST1, HOST2, Scene, played

RIGHT = 'the token may not read the host (give it node "host2" { policy = "read" })'


def with_hosts(script) -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, Catalog(CatalogTable(peer.address, token_file=""), lambda: 1000.0) as catalog:
            await script(peer, HiddenHosts(catalog, lambda: None))

    run(scene)


def test_who_may_not_be_read_is_hidden_and_who_may_is_gone() -> None:
    async def script(peer: ScriptedCatalog, hosts: HiddenHosts) -> None:
        rights = Authorized(peer, "h7", "h99")
        assert await hosts.look(f"h{number}" for number in range(100)) == {"h7", "h99"} == hosts.names
        rights.hidden.clear()
        assert (await hosts.look(["h7"]), hosts.names) == (frozenset(), {"h99"})
        hosts.forget_shown(["h99"])
        assert (await hosts.look([]), hosts.names, rights.questions) == (frozenset(), frozenset(), [64, 36, 1])

    with_hosts(script)


def test_one_refusal_to_tell_shows_no_host_and_one_that_lasts_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a proxy's 403: what was let go for it would be called in clear. Where the operator has blocked the question nothing is hidden."""
    monkeypatch.setattr(limits, "CATALOG_COMPLAIN_S", 3600.0)

    async def script(peer: ScriptedCatalog, hosts: HiddenHosts) -> None:
        Authorized(peer, "h7")
        await hosts.look(["h7"])
        peer.scripts[AUTHORIZE] = lambda _: web.Response(status=403, text="a proxy's")
        for _ in range(2):
            assert (await hosts.look(["h7", "h8"]), hosts.names) == ({"h7"}, {"h7"})
        del peer.scripts[AUTHORIZE]
        hosts._rights._silent_until = 0.0
        assert await hosts.look(["h7"]) == {"h7"}
        peer.scripts[AUTHORIZE] = lambda _: web.Response(status=403, text="Endpoint is blocked by agent configuration")
        assert await hosts.look(["h7"]) == {"h7"}
        hosts._rights._silent_until = 0.0
        assert (await hosts.look(["h7"]), hosts.names) == (frozenset(), frozenset())

    with_hosts(script)


def test_the_right_is_named() -> None:
    assert why_hidden(["host2"]) == RIGHT
    assert why_hidden({"b", "a"}).startswith('the token may not read the host (give it node "a"')


def test_an_instance_on_a_host_that_is_hidden_stays() -> None:
    """One of three, which is everyday work where the host may be read."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = Authorized(peer, "host2")
        own, other = instance(HOST1, "db", 5432), instance(HOST2, "db", 5432)
        peer.register("db", own, instance(HOST1, "db", 5433, "b"), other)
        await until(lambda: scene.services() == {"db": 3}, "the instances")
        peer.register("db", own, instance(HOST1, "db", 5433, "b"))
        await until(lambda: RIGHT in "".join(scene.follower.alarms()), "the alarm")
        assert scene.services() == {"db": 3}
        rights.hidden.clear()
        await until(lambda: scene.services() == {"db": 2}, "its end")
        await until(lambda: scene.follower.alarms() == (), "no alarm any more")

    played(script)


def test_a_host_that_is_hidden_stays_meshed_without_end() -> None:
    """Clear text may be allowed towards a host without an agent."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        def marked() -> bool:
            state = scene.follower.state()
            return bool(state) and any(host.name == "host2" and host.tunnel_port for host in state.hosts)

        rights = Authorized(peer, "host2")
        await until(marked, "the hosts")
        peer.set(NODES, [HOST1])
        await until(lambda: marked() and RIGHT in "".join(scene.follower.alarms()), "the alarm")
        scene.elapsed += limits.HOLD_BACK_S + 1
        assert marked()
        rights.hidden.clear()
        peer.set(NODES, [HOST1, {**HOST1, "Node": "host3"}])
        await until(lambda: marked() and RIGHT not in "".join(scene.follower.alarms()), "the right")
        assert marked()
        scene.elapsed += limits.HOLD_BACK_S + 1
        assert not marked()

    played(script)
