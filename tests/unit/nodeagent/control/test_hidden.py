"""Hosts that are hidden from a token are told from hosts that are gone, against a scripted Consul."""

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog
from nodeagent.control.hidden import AUTHORIZE, HiddenHosts, why_hidden
from nodeagent.errors import CatalogError
from tests.support.loop import run, until
from tests.support.scripted_catalog import NODES, ScriptedCatalog, instance
from tests.unit.nodeagent.control.test_follow import HOST1, HOST2, Scene, played

RIGHT = 'the token may not read the host (give it node "host2" { policy = "read" })'


class Rights:
    """What a token may read, as Consul 1.8.7 tells it."""

    def __init__(self, peer: ScriptedCatalog, *hidden: str) -> None:
        self.hidden = set(hidden)
        self.questions: list[int] = []
        peer.authorize = self._answer

    def _answer(self, questions: list[dict[str, str]]) -> web.Response:
        self.questions.append(len(questions))
        if len(questions) > 64:
            return web.Response(status=400, text="Bad request: Refusing to process more than 64 authorizations at once")
        return web.json_response([{**each, "Allow": each["Segment"] not in self.hidden} for each in questions])


def with_hosts(script) -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, Catalog(CatalogTable(peer.address, token_file=""), lambda: 1000.0) as catalog:
            await script(peer, HiddenHosts(catalog))

    run(scene)


def test_who_may_not_be_read_is_hidden_and_who_may_is_gone() -> None:
    """Consul refuses more than 64 questions at once."""

    async def script(peer: ScriptedCatalog, hosts: HiddenHosts) -> None:
        rights = Rights(peer, "h7", "h99")
        assert await hosts.look(f"h{number}" for number in range(100)) == {"h7", "h99"} == hosts.names
        assert rights.questions == [64, 36]
        rights.hidden.clear()
        assert (await hosts.look(["h7"]), hosts.names) == (frozenset(), {"h99"})
        hosts.forget_shown(["h99"])
        assert (await hosts.look([]), hosts.names, rights.questions) == (frozenset(), frozenset(), [64, 36, 1])

    with_hosts(script)


@pytest.mark.parametrize(
    ("status", "text", "is_hidden"),
    [(401, "ACL support disabled", False), (501, "not served", False), (404, "", False), (403, "Endpoint is blocked by agent configuration", False),
     (403, "ACL not found", True)],
)  # fmt: skip
def test_a_catalog_that_tells_nothing_of_rights_hides_nothing(status: int, text: str, *, is_hidden: bool) -> None:
    """It is not asked again for a while; a token that is none reads nothing."""

    async def script(peer: ScriptedCatalog, hosts: HiddenHosts) -> None:
        peer.scripts[AUTHORIZE] = lambda _: web.Response(status=status, text=text)
        assert await hosts.look(["host2"]) == ({"host2"} if is_hidden else frozenset())
        await hosts.look(["host2"])
        assert len(peer.asked) == (2 if is_hidden else 1)

    with_hosts(script)


@pytest.mark.parametrize("answer", [web.Response, lambda **_: web.json_response({"a": 1}), lambda **_: web.Response(status=500)])
def test_a_catalog_that_fails_proves_nothing(answer) -> None:
    async def script(peer: ScriptedCatalog, hosts: HiddenHosts) -> None:
        peer.scripts[AUTHORIZE] = lambda _: answer(text="x") if answer is web.Response else answer()
        with pytest.raises(CatalogError):
            await hosts.look(["host2"])

    with_hosts(script)


def test_the_right_is_named() -> None:
    assert why_hidden(["host2"]) == RIGHT
    assert why_hidden({"b", "a"}).startswith('the token may not read the host (give it node "a"')


def test_an_instance_on_a_host_that_is_hidden_stays() -> None:
    """One of three, which is everyday work where the host may be read."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = Rights(peer, "host2")
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

        rights = Rights(peer, "host2")
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
