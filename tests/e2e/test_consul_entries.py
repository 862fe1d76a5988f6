"""Entries about requests, from a real Consul 1.8.7 with default deny into what agents compile."""

import pytest
from msgspec.structs import replace

from nodeagent.catalog.compiler import compile_snapshot
from nodeagent.control.entries import MESH
from nodeagent.model.policy.defaults import Normalization
from nodeagent.model.policy.routing import ServiceRouter
from tests.e2e.support.consul import Consul
from tests.e2e.test_consul_control import SETTINGS, played, readme_rules
from tests.support.loop import until

DEFAULTS = [{"Kind": "service-defaults", "Name": name, "Protocol": "http"} for name in ("site", "api")]
ROUTER = {"Kind": "service-router", "Name": "site", "Routes": [{"Match": {"HTTP": {"PathPrefix": "/api", "Methods": ["get"]}}, "Destination": {"Service": "api"}}]}
RESOLVER = {"Kind": "service-resolver", "Name": "site", "ConnectTimeout": "2s", "Subsets": {"v1": {"Filter": "Service.Meta.version == v1"}}}
SPLITTER = {"Kind": "service-splitter", "Name": "site", "Splits": [{"Weight": 90}, {"Weight": 10, "ServiceSubset": "v1"}]}
SLASHES = {"HTTP": {"Incoming": {"RequestNormalization": {"MergeSlashes": True}}}}


@pytest.fixture(scope="module")
def consul(tmp_path_factory):
    with Consul(tmp_path_factory.mktemp("consul"), acl=True, node="host1", ae_interval="1s") as running:
        yield running


def write(scene, *entries):
    for entry in entries:
        assert scene.master.put("/v1/config", entry).status == 200


def test_routers_splitters_and_resolvers_come_into_force_and_their_end_is_proven(consul, tmp_path) -> None:
    """As Consul writes them back, with what it adds; by the token that the README has for an agent."""

    async def script(scene) -> None:
        write(scene, *DEFAULTS, RESOLVER, SPLITTER, ROUTER)
        body = {"Name": "site", "Port": 8081, "Address": "10.77.0.1", "Meta": {"version": "v1"}}
        assert scene.master.put("/v1/agent/service/register", body).status == 200
        await until(lambda: scene.state and scene.state.instances.get("site") and scene.state.resolvers, "all of it")
        await until(lambda: (scene.state.routers.keys(), scene.state.splitters.keys()) == ({"site"}, {"site"}), "the entries")
        snapshot = compile_snapshot(scene.state, SETTINGS, trust_domain="td", generation=1)
        site = snapshot.services["site"]
        assert (scene.state.unread, site.protocol, site.is_routed) == ({}, "http", True)
        assert ([("v1",)], ("GET",)) == ([each.subsets for each in site.instances], site.traffic.router.routes[0].match.http.methods)
        assert {"site": ("api",)} == scene.follower.entries.ways
        for kind in ("service-router", "service-splitter"):
            scene.master.delete(f"/v1/config/{kind}/site")
        await until(lambda: not scene.state.routers and not scene.state.splitters, "their end")
        assert not any("held" in text for text in scene.follower.alarms())

    played(consul, tmp_path, script)


def test_a_token_that_may_not_read_a_service_keeps_the_router_that_it_knew(consul, tmp_path) -> None:
    """Consul 1.8 leaves it out of the list without a word."""
    rules = readme_rules() + '\nservice "site" { policy = "deny" }\n'

    async def script(scene) -> None:
        write(scene, *DEFAULTS, ROUTER)
        await until(lambda: scene.state, "the state")
        assert scene.state.routers == {}
        known = replace(scene.state, routers={"site": ServiceRouter(kind="service-router", name="site")})
        scene.follower.entries.remember(known)
        write(scene, {**ROUTER, "Name": "api", "Routes": []})
        await until(lambda: "api" in scene.state.routers, "another router")
        assert "site" in scene.state.routers
        assert any("service-router of site: held" in text for text in scene.follower.alarms())
        scene.master.delete("/v1/config/service-router/api")

    played(consul, tmp_path, script, rules)


def test_what_it_cannot_keep_is_in_its_kv_store(consul, tmp_path) -> None:
    """The mesh entry, which 1.8 does not know, and our own kinds."""

    async def script(scene) -> None:
        assert scene.master.put("/v1/kv/nodeagent/config/mesh/mesh", SLASHES).status == 200
        assert scene.master.put("/v1/kv/nodeagent/config/retry-budget/site", {"Ratio": 0.5}).status == 200
        await until(lambda: scene.state and scene.state.normalization == Normalization(merge_slashes=True) and scene.state.budgets, "both")
        assert (scene.state.budgets["site"].ratio, scene.follower.entries.is_mesh_kept) == (0.5, True)
        assert not any(MESH in text for text in scene.follower.complaints())
        scene.master.delete("/v1/kv/nodeagent/config/mesh/mesh")
        await until(lambda: scene.state.normalization is None, "its end")

    played(consul, tmp_path, script)
