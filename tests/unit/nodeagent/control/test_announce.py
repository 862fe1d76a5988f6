"""This host's own place in the catalog, against a scripted Consul agent; how the embedded one is told is in test_follow."""

import json

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.catalog.state import CatalogState, parse_hosts
from nodeagent.control.announce import Announcer
from nodeagent.errors import CatalogError
from nodeagent.model.service import Host
from tests.support.loop import until
from tests.support.mesh import config
from tests.support.scripted_catalog import NODES, SERVICES, ScriptedCatalog, instance
from tests.support.scripted_rights import ScriptedRights
from tests.unit.nodeagent.control.test_follow import Scene, alone, played

SELF, REGISTER, HEALTH = "/v1/agent/self", "/v1/agent/service/register", "/v1/health/service/nodeagent"
CHAIN = "/v1/discovery-chain/nodeagent"
CONFIG = {"NodeName": "host1", "Datacenter": "dc1", "NodeID": "3a9b826f-5a67-d7a3-eac5-20a4924b64bc", "Server": False, "Version": "1.8.7"}
OWN = {"Node": "host1", "Address": "10.77.0.1", "TaggedAddresses": {"lan_ipv4": "10.77.0.1"}, "Meta": {"consul-network-segment": ""}}
OTHER = OWN | {"Node": "host2", "Address": "10.77.0.2", "TaggedAddresses": {"lan_ipv4": "10.77.0.2"}}


class Agent:
    """A Consul agent: what it is told it shows, unless its servers refuse it."""

    def __init__(self, peer: ScriptedCatalog, **changes: object) -> None:
        self.peer = peer
        self.told: list[dict] = []
        self.is_heard = True
        peer.set(SELF, {"Config": CONFIG | changes, "DebugConfig": {}, "Member": {}})
        peer.set(NODES, [OWN, OTHER])
        peer.scripts[REGISTER] = self._register

    def _register(self, request: web.Request) -> web.Response | None:
        self.told.append({})
        if self.is_heard:
            self.show()
        return None  # the peer keeps the body

    def show(self) -> None:
        body = {"ID": "nodeagent", "Service": "nodeagent", "Port": 15008, "Meta": {"nodeagent": "15008;v1"}, "Address": "10.77.0.1"}
        body["TaggedAddresses"] = {"lan_ipv4": {"Address": "10.77.0.1", "Port": 15008}, "lan_ipv6": {"Address": "fd77::1", "Port": 15008}}
        self.peer.register("nodeagent", {"Node": OWN, "Service": body, "Checks": []})
        self.peer.set(CHAIN, {"Chain": {}})


def hosts_of(scene: Scene) -> dict[str, tuple[tuple[str, ...], int]]:
    state = scene.follower.state()
    return {host.name: (host.addresses, host.tunnel_port) for host in state.hosts} if state else {}


def test_the_hosts_own_agent_is_told_and_the_mesh_sees_it() -> None:
    """A service of the agent's, which its anti-entropy keeps; node meta of ours it would take back."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        agent = Agent(peer)
        await until(lambda: hosts_of(scene).get("host1") == (("10.77.0.1", "fd77::1"), 15008), "the host with its agent")
        assert hosts_of(scene)["host2"] == (("10.77.0.2",), 0)
        (written,) = [body for path, body in peer.written if path == REGISTER]
        assert (written["Name"], written["Meta"]) == ("nodeagent", {"nodeagent": "15008;v1"})
        assert written["TaggedAddresses"]["lan_ipv6"] == {"Address": "fd77::1", "Port": 15008}
        assert [path for path, _ in peer.written if path == "/v1/catalog/register"] == []
        assert scene.services() == {}
        assert scene.follower.found == ("this host's Consul agent",)
        peer.set(NODES, [OWN, OTHER, OTHER | {"Node": "host3", "Address": "10.77.0.3", "TaggedAddresses": None}])
        await until(lambda: "host3" in hosts_of(scene), "another host")
        assert len(agent.told) == 1

    played(script)


def test_a_marker_that_is_lost_is_told_again() -> None:
    """The agent was restarted without its data, or somebody took the service away."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        agent = Agent(peer)
        await until(lambda: hosts_of(scene).get("host1", ((), 0))[1], "the marker")
        peer.set(HEALTH, [])
        peer.set(SERVICES, {"nodeagent": []})
        await until(lambda: len(agent.told) == 2, "told again")
        assert hosts_of(scene)["host1"][1] == 15008

    played(script)


def test_a_marker_whose_registration_was_refused_once_is_told_again() -> None:
    """Also where it was the only one, so that the service is not listed any more."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        agent = Agent(peer)
        await until(lambda: hosts_of(scene).get("host1", ((), 0))[1], "the marker")
        told, peer.scripts[REGISTER] = peer.scripts[REGISTER], lambda _: web.Response(status=403, text="Permission denied")
        peer.set(SERVICES, {})
        peer.set(HEALTH, [])
        await until(lambda: "Permission denied" in "".join(scene.follower.complaints()), "the complaint")
        assert len(agent.told) == 1
        peer.scripts[REGISTER] = told
        await until(lambda: len(agent.told) == 2, "told again")

    played(script)


def test_a_marker_that_is_lost_with_most_of_the_others_is_told_at_once() -> None:
    """What is held back of the others must not hide that one's own is gone."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        agent = Agent(peer)
        await until(lambda: hosts_of(scene).get("host1", ((), 0))[1], "the marker")
        (own,) = peer.values[HEALTH][1]
        peer.set(HEALTH, [own, *(own | {"Node": OTHER | {"Node": f"host{n}", "Address": f"10.77.0.{n}"}} for n in range(2, 6))])
        await until(lambda: hosts_of(scene).get("host5", ((), 0))[1], "all markers")
        peer.set(HEALTH, [])
        await until(lambda: len(agent.told) == 2, "told again")
        assert "nodeagent" in scene.follower.held

    played(script)


def test_an_address_that_two_agents_claim_is_an_alarm() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        Agent(peer)
        await until(lambda: hosts_of(scene).get("host1", ((), 0))[1], "the marker")
        (own,) = peer.values[HEALTH][1]
        peer.set(HEALTH, [own, own | {"Node": OTHER, "Service": own["Service"] | {"ModifyIndex": 99}}])
        await until(lambda: hosts_of(scene).get("host2", ((), 0))[1], "the other")
        assert hosts_of(scene)["host1"][0] == ("10.77.0.1", "fd77::1")
        assert hosts_of(scene)["host2"][0] == ("10.77.0.2",)
        assert any("host2 claims 10.77.0.1 by its service nodeagent" in text for text in scene.follower.alarms())

    played(script)


def restarted(scene: Scene) -> None:
    """As it was saved by an agent that knew markers of host1 and host2."""
    hosts = (Host("host1", ("10.77.0.1",), 15008), Host("host2", ("10.77.0.2",), 15008))
    scene.follower.remember(CatalogState(hosts=hosts))


def test_markers_that_cannot_be_read_after_a_restart_are_as_they_were_saved() -> None:
    """And for as long as that lasts: a host that lost its marker may be called in clear."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        restarted(scene)
        Agent(peer)
        peer.register("web", instance(OTHER, "web", 80))
        peer.register("nodeagent")
        peer.scripts[HEALTH] = lambda _: web.Response(text="[{}]")
        await until(lambda: scene.services() == {"web": 1}, "the state")
        for _ in range(2):
            assert {name: port for name, (_, port) in hosts_of(scene).items()} == {"host1": 15008, "host2": 15008}
            scene.elapsed += 2 * limits.HOLD_BACK_S

    played(script)


def test_a_token_without_the_right_to_read_markers_takes_none_away_by_a_restart() -> None:
    """Consul does not even list the service then."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        restarted(scene)
        Agent(peer).is_heard = False
        ScriptedRights(peer).hide_service("nodeagent")
        await until(lambda: "nodeagent" in scene.follower.held and scene.follower.state(), "the alarm")
        assert 'give it service "nodeagent" { policy = "read" }' in scene.follower.held["nodeagent"]
        for _ in range(2):
            assert {name: port for name, (_, port) in hosts_of(scene).items()} == {"host1": 15008, "host2": 15008}
            scene.elapsed += 2 * limits.HOLD_BACK_S

    played(script)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"NodeName": "web-7"}, "leads to the Consul agent of 'web-7', and this host is 'host1'"),
        ({"Datacenter": "dc2"}, "host.datacenter is 'dc1', and the Consul agent's is 'dc2'"),
    ],
)
def test_an_agent_of_another_host_or_datacenter_is_named(changes: dict, says: str) -> None:
    """What it was told would be true of another host."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        agent = Agent(peer, **changes)
        await until(lambda: says in scene.follower.pulse_error, "the complaint")
        assert agent.told == []

    played(script)


def test_a_marker_that_the_servers_do_not_show_is_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    """They refuse the agent's registration, or hide it from this token."""
    monkeypatch.setattr(limits, "MARKER_SHOWN_S", 0.0)

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        agent = Agent(peer)
        agent.is_heard = False
        await until(lambda: 'write and read service "nodeagent"' in scene.follower.pulse_error, "the complaint")
        agent.show()
        await until(lambda: hosts_of(scene).get("host1", ((), 0))[1] and not scene.follower.pulse_error, "the marker")

    played(script)


def test_servers_that_do_not_show_the_marker_are_asked_for_news_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the agent is told again after a minute: it tries by itself."""
    monkeypatch.setattr(limits, "MARKER_SHOWN_S", 1.0)

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        def look(_: web.Request) -> None:
            scene.elapsed += 0.6

        agent = Agent(peer)
        agent.is_heard = False
        peer.scripts[HEALTH] = look
        for _ in range(2):
            with pytest.raises(CatalogError, match="its servers do not show it"):
                await scene.follower._announcer.check_hosts((), ())
        assert len(agent.told) == 1
        assert [index for _, path, index in peer.asked if path == HEALTH] == ["", "12"]
        monkeypatch.setattr(limits, "CATALOG_COMPLAIN_S", 0.0)
        agent.is_heard = True
        await scene.follower._announcer.check_hosts((), ())
        assert len(agent.told) == 2

    alone(script)


@pytest.mark.parametrize(("path", "says"), [(SELF, r'agent "host1" \{ policy = "read" \}'), (REGISTER, "Permission denied")])
def test_a_right_that_is_missing_is_told(path: str, says: str) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        Agent(peer)
        peer.scripts[path] = lambda _: web.Response(status=403, text="Permission denied")
        with pytest.raises(CatalogError, match=f"could not be registered: .*{says}"):
            await scene.follower._announcer.check_hosts(parse_hosts(json.dumps([OWN]).encode()), ())

    alone(script)


def test_the_embedded_catalog_keeps_the_row_itself() -> None:
    """It answers as an agent, without an id of its own."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.set(SELF, {"Config": {"NodeName": "host1", "Datacenter": "dc1", "Server": True, "Version": "1"}})
        peer.set(NODES, [OTHER])
        await until(lambda: hosts_of(scene).get("host1", ((), 0))[1], "the row")
        assert "/v1/catalog/register" in [path for path, _ in peer.written]
        peer.register("web", instance(OTHER, "web", 80))
        await until(lambda: scene.services() == {"web": 1}, "services")

    played(script)


def test_another_catalog_at_the_same_address_is_found_out() -> None:
    """A refusal asks anew who is there."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts["/v1/catalog/register"] = lambda _: web.Response(status=403, text="Permission denied")
        with pytest.raises(CatalogError, match="Permission denied"):
            await scene.follower._announcer.check_hosts((), ())
        agent = Agent(peer)
        await scene.follower._announcer.check_hosts((), ())
        assert len(agent.told) == 1

    alone(script)


def test_an_answer_that_is_none_is_told() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.set(SELF, [])
        with pytest.raises(CatalogError, match="/v1/agent/self"):
            await scene.follower._announcer.check_hosts((), ())

    alone(script)


def test_a_host_that_the_catalog_does_not_show_was_forgotten_and_one_whose_row_differs_was_not() -> None:
    async def script(scene: Scene, _: ScriptedCatalog) -> None:
        announcer = Announcer(config(), scene.catalog, lambda: scene.elapsed)
        await announcer.check_hosts((Host("host2", ("10.77.0.2",), 15008),), ())
        assert announcer.why_forgotten == "", "it was never there"
        scene.elapsed += limits.CATALOG_COMPLAIN_S
        await announcer.check_hosts((Host("host1", ("10.77.0.9",), 15008),), ())
        assert announcer.why_forgotten == ""
        await announcer.check_hosts((Host("host2", ("10.77.0.2",), 15008),), ())
        assert "the catalog had forgotten this host, which was registered anew; for 300 s more" in announcer.why_forgotten
        scene.elapsed += limits.HOLD_BACK_S
        assert announcer.why_forgotten == ""
        successor = Announcer(config(), scene.catalog, lambda: scene.elapsed)
        successor.remember((Host("host1", ("10.77.0.1",), 15008),))
        await successor.check_hosts((), ())
        assert "had forgotten this host" in successor.why_forgotten

    alone(script)
