"""What the catalog says of requests, against a scripted one."""

import base64
import json

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.catalog.entry_lists import kept_entries_path
from nodeagent.catalog.state import CatalogState
from nodeagent.control import entries, follow
from nodeagent.control.entries import Entries
from nodeagent.model.policy.defaults import Normalization, Upstream, UpstreamConfig
from nodeagent.model.policy.own import RetryBudget
from nodeagent.model.policy.routing import Route, RouteDestination, ServiceRouter
from tests.support.loop import until
from tests.support.scripted_catalog import SELF, ScriptedCatalog, instance
from tests.support.scripted_rights import CONSUL, ScriptedRights
from tests.unit.nodeagent.control.test_follow import HOST2, Scene, alone, played

ROUTERS, DEFAULTS, MESH = "/v1/config/service-router", "/v1/config/service-defaults", "/v1/config/mesh"
WEB = {"Kind": "service-router", "Name": "web", "Routes": [{"Destination": {"Service": "api"}}]}
API = {"Kind": "service-router", "Name": "api", "Routes": [{"Destination": {"PrefixRewrite": "/"}, "Match": {"HTTP": {"PathPrefix": "/v1"}}}]}
SLASHES = {"HTTP": {"Incoming": {"RequestNormalization": {"MergeSlashes": True}}}}


def state_of(scene: Scene) -> CatalogState:
    return scene.follower.state() or CatalogState()


def routed(scene: Scene) -> list[str]:
    return sorted(state_of(scene).routers)


def kept(kind: str, name: str, said: dict) -> dict[str, str]:
    return {"Key": f"nodeagent/config/{kind}/{name}", "Value": base64.b64encode(json.dumps(said).encode()).decode()}


def key(kind: str) -> str:
    return kept_entries_path(kind).partition("?")[0]


def test_entries_of_each_kind_become_the_state_s() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.set(ROUTERS, [WEB])
        peer.set("/v1/config/service-splitter", [{"Kind": "service-splitter", "Name": "web", "Splits": [{"Weight": 100}]}])
        peer.set("/v1/config/service-resolver", [{"Kind": "service-resolver", "Name": "api", "ConnectTimeout": "2s"}])
        limits_ = {"Defaults": {"Limits": {"MaxConnections": 7}}}
        peer.set(DEFAULTS, [{"Kind": "service-defaults", "Name": "shop", "Protocol": "http", "UpstreamConfig": limits_}])
        peer.set(MESH, [{"Kind": "mesh", **SLASHES, "CreateIndex": 3, "ModifyIndex": 7}])  # as Consul: without a name
        peer.set(key("retry-budget"), [kept("retry-budget", "*", {"Ratio": 0.5})])
        await until(lambda: state_of(scene).normalization == Normalization(merge_slashes=True) and bool(state_of(scene).budgets), "the last ones")
        await until(lambda: all((state_of(scene).routers, state_of(scene).splitters, state_of(scene).resolvers, state_of(scene).upstreams)), "all")
        state = state_of(scene)
        assert (state.protocols, state.upstreams["shop"].defaults.limits.max_connections) == ({"shop": "http"}, 7)
        assert (state.budgets["*"].ratio, state.unread) == (0.5, {})
        assert {"web": ("api",)} == scene.follower.entries.ways

    played(script)


def test_one_that_is_not_understood_keeps_no_other_away_and_is_known() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.set(ROUTERS, [WEB, {**API, "Unheard": 1}])
        await until(lambda: routed(scene) == ["web"] and "service-router/api" in state_of(scene).unread, "both")
        assert scene.follower.alarms() == ()

    played(script)


def test_garbage_keeps_what_was_known_and_is_shown() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.set(ROUTERS, [WEB])
        await until(lambda: routed(scene) == ["web"], "the router")
        peer.set(ROUTERS, {"Kind": "service-router"})
        await until(scene.follower.complaints, "the complaint")
        assert routed(scene) == ["web"]

    played(script)


def test_the_embedded_catalog_is_believed_when_an_entry_is_gone() -> None:
    """It refuses whoever may not read."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.set(ROUTERS, [WEB, API])
        await until(lambda: routed(scene) == ["api", "web"], "the routers")
        peer.set(ROUTERS, [API])
        await until(lambda: routed(scene) == ["api"], "the other's end")
        assert scene.follower.alarms() == ()

    played(script)


def test_of_a_consul_an_entry_that_is_hidden_stays_in_force() -> None:
    """To a token that may not read its service the list says nothing of it: without it requests would go elsewhere."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer)
        peer.set(SELF, CONSUL)
        peer.set(ROUTERS, [WEB, API])
        await until(lambda: routed(scene) == ["api", "web"], "the routers")
        rights.hide_service("web")
        rights.show_service("api")
        peer.set(ROUTERS, [])
        await until(lambda: "service-router of web: held" in "".join(scene.follower.alarms()), "the alarm")
        assert routed(scene) == ["web"]
        rights.show_service("web")
        await until(lambda: routed(scene) == [] and not scene.follower.alarms(), "its end, proven")

    played(script)


def test_what_was_saved_is_held_as_what_was_heard() -> None:
    """A restarted agent with a weaker token."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        held = Entries(scene.catalog, scene.follower.foreign, scene.follower.seen, "host1", lambda: 0.0, lambda: None)
        saved = CatalogState(
            routers={"web": ServiceRouter(kind="service-router", name="web", routes=(Route(destination=RouteDestination(service="api")),))},
            budgets={"*": RetryBudget(kind="retry-budget", name="*", ratio=0.5)},
            upstreams={"shop": UpstreamConfig(defaults=Upstream(connect_timeout_ms=7))},
            normalization=Normalization(merge_slashes=True),
            unread={"service-router/odd": "why", "retry-budget/web": "why", "service-defaults/db": "why"},
        )
        held.remember(saved)
        assert held.missing() == ("service-router", "service-splitter", "service-resolver")
        assert held.fill(CatalogState()) == saved
        assert {"web": ("api",)} == held.ways

    alone(script)


def test_a_filtered_answer_takes_nothing_away() -> None:
    """Consul's own word that it left out something."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.set(ROUTERS, [WEB])
        await until(lambda: routed(scene) == ["web"], "the router")
        marks = {"X-Consul-Index": "99", "X-Consul-Results-Filtered-By-ACLs": "true"}
        peer.scripts[ROUTERS] = lambda _: web.json_response([API], headers=marks)
        peer.set(ROUTERS, [WEB])
        await until(lambda: routed(scene) == ["api", "web"], "what came")
        assert "left out what the token may not read" in "".join(scene.follower.alarms())

    played(script)


def test_another_cluster_s_entries_do_not_count() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.set(ROUTERS, [WEB])
        await until(lambda: routed(scene) == ["web"], "the router")
        scene.follower.foreign.known = lambda: "another.consul"
        peer.set(ROUTERS, [API])
        peer.set(key("retry-budget"), [kept("retry-budget", "*", {"Ratio": 0.5})])
        await until(lambda: sum("entries of the kind" in text for text in scene.follower.complaints()) == 2, "the complaints")
        assert (routed(scene), state_of(scene).budgets) == (["web"], {})

    played(script)


def test_nor_do_they_after_a_restart() -> None:
    """What was saved counts: also where paths are made normal, and how often a request is tried again."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        scene.follower.entries.remember(CatalogState(normalization=Normalization(merge_slashes=True)))
        scene.follower.foreign.known = lambda: "another.consul"
        peer.set(MESH, [{"Kind": "mesh", "HTTP": {"Incoming": {"RequestNormalization": {"InsecureDisablePathNormalization": True}}}}])
        peer.set(key("retry-budget"), [kept("retry-budget", "*", {"Ratio": 0.5})])
        await until(lambda: sum("entries of the kind" in text for text in scene.follower.complaints()) >= 2, "the complaints")
        filled = scene.follower.entries.fill(CatalogState())
        assert (filled.normalization, filled.budgets) == (Normalization(merge_slashes=True), {})

    played(script)


@pytest.mark.parametrize("refusal", [(500, 'invalid config entry kind "mesh"'), (404, "no such page")])
def test_a_server_that_does_not_know_a_kind_has_none_of_it(refusal: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As Consul 1.8 of mesh: it is in the KV store then, until the server was upgraded."""
    monkeypatch.setattr(limits, "CATALOG_POLL_S", 0.02)

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts[MESH] = lambda _: web.Response(status=refusal[0], text=refusal[1])
        peer.set(key("mesh"), [kept("mesh", "mesh", SLASHES)])
        await until(lambda: state_of(scene).normalization == Normalization(merge_slashes=True), "the KV store's")
        assert scene.follower.complaints() == ()
        del peer.scripts[MESH]
        await until(lambda: scene.follower.state() is not None and state_of(scene).normalization is None, "the server's own, which says nothing")
        assert kept_entries_path("mesh") not in scene.follower._watches

    played(script)


def test_so_many_watches_are_not_services() -> None:
    """What is left of CATALOG_WATCHES is for these."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts[MESH] = lambda _: web.Response(status=500, text="invalid config entry kind")
        await until(lambda: kept_entries_path("mesh") in scene.follower._watches, "the KV store's watch")
        of_entries = [path for path in scene.follower._watches if "service-intentions" not in path and path.startswith(("/v1/config/", "/v1/kv/"))]
        assert len(of_entries) == entries.WATCHES

    played(script)


def test_services_to_which_requests_lead_are_watched_as_those_that_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here dials them: the router's requests go there all the same."""
    monkeypatch.setattr(limits, "CATALOG_WATCHES", follow._OTHER_WATCHES + 4)

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.has_inventory = True
        for number in range(5):
            peer.register(f"s{number}", instance(HOST2, f"s{number}", 80 + number))
        await until(lambda: len(scene.services()) == 5, "all services")
        scene.follower.note_calls({"s2"})
        peer.set(ROUTERS, [{**WEB, "Name": "s2", "Routes": [{"Destination": {"Service": "s4"}}]}])
        watched = lambda: {path[-2:] for path, watch in scene.follower._watches.items() if "/health/service/s" in path and not watch.rhythm.poll_s}  # noqa: E731 - one line
        await until(lambda: watched() == {"s2", "s4"}, "their watches")

    played(script)
