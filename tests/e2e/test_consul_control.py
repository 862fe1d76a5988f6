"""Control's parts against a real Consul 1.8.7 with default deny, and the token that the README has for an agent."""

import asyncio
import contextlib
import subprocess
from pathlib import Path

import pytest

from nodeagent.cli.catalog_api import Client
from nodeagent.cli.intention import change, read_intentions, with_source, without_source
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog
from nodeagent.control.environment import real_environment
from nodeagent.control.follow import Follower
from nodeagent.control.identity import Identity
from nodeagent.model.intention import Intention
from nodeagent.observe.metrics import Metrics
from tests.e2e.support.consul import Consul, binary
from tests.support.loop import run, until
from tests.support.mesh import config

README = Path(__file__).parents[2] / "README.md"
SETTINGS = config('[identity]\nunits = "any"\n')
SYNC_S = 3.0  # three rounds of anti-entropy, where it is told to come each second


def readme_rules():
    """The ACL rules that the README has for an agent's token."""
    _, _, after = README.read_text().partition("```hcl\n")
    return after.partition("```")[0]


class Scene:
    """Follower and identity of host1, whose Consul agent `consul` is."""

    def __init__(self, consul, token_file):
        self.consul = consul
        self.master = consul.client()
        self.table = CatalogTable(f"http://{consul.address}", token_file=str(token_file))
        env = real_environment()
        self.catalog = Catalog(self.table, env.now)
        self.follower = Follower(SETTINGS, self.catalog, Metrics("1"), env)
        self.rings = []
        self.identity = Identity(SETTINGS, self.catalog, Metrics("1"), env, hand_out=self.rings.append, on_trust=lambda: None)

    @property
    def state(self):
        return self.follower.state()

    def pairs(self):
        return [f"{row.source} -> {row.destination} {row.action}" for row in self.state.intentions] if self.state else None

    def marks(self):
        return {host.name: (host.tunnel_port, host.addresses) for host in self.state.hosts} if self.state else {}

    def names(self):
        return [svid.service for svid in self.rings[-1].svids] if self.rings else []

    def consul_cli(self, *argv):
        env = {"CONSUL_HTTP_ADDR": self.consul.address, "CONSUL_HTTP_TOKEN": self.consul.token}
        return subprocess.run([binary(), *argv], env=env, check=True, capture_output=True, text=True, timeout=30).stdout


@pytest.fixture(scope="module")
def consul(tmp_path_factory):
    with Consul(tmp_path_factory.mktemp("consul"), acl=True, node="host1", ae_interval="1s") as running:
        yield running


def played(consul, tmp_path, script, rules=""):
    """Runs `script(scene)` with both parts running, by a token with these rules."""
    token = tmp_path / "token"
    token.write_text(consul.make_token(tmp_path.name, rules or readme_rules()))

    async def scene():
        playing = Scene(consul, token)
        async with playing.catalog:
            tasks = [asyncio.create_task(playing.follower.run()), asyncio.create_task(playing.identity.run())]
            try:
                await script(playing)
            finally:
                for task in tasks:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    run(scene)


def test_the_host_is_marked_and_stays_so(consul, tmp_path) -> None:
    """Through anti-entropy, at all its addresses, of which Consul's row has none."""

    async def script(scene) -> None:
        await until(lambda: scene.marks().get("host1", (0,))[0] == 15008, "the mark")
        await asyncio.sleep(SYNC_S)
        port, addresses = scene.marks()["host1"]
        assert (port, {"10.77.0.1", "fd77::1"} <= set(addresses)) == (15008, True)
        assert scene.follower.pulse_error == ""
        assert "nodeagent" not in scene.state.instances
        assert "consul" not in scene.state.instances

    played(consul, tmp_path, script)


def test_what_is_registered_in_consul_is_in_the_mesh(consul, tmp_path) -> None:
    """With its weight, its health, and no word to nodeagent."""
    body = {"Name": "web", "Port": 8080, "Address": "10.77.0.1", "Weights": {"Passing": 7, "Warning": 1}}
    check = {"CheckID": "beat", "TTL": "1h", "Status": "critical"}

    async def script(scene) -> None:
        await until(lambda: scene.state, "the state")
        assert scene.master.put("/v1/agent/service/register", body | {"Check": check}).status == 200
        (row,) = await until(lambda: scene.state.instances.get("web"), "the service")
        assert (row.instance.weight, row.instance.healthy) == (7, False)
        assert scene.master.put("/v1/agent/check/pass/beat").status == 200
        await until(lambda: scene.state.instances["web"][0].instance.healthy, "its health")
        scene.master.put("/v1/agent/service/deregister/web")
        await until(lambda: not scene.state.instances.get("web"), "its end")

    played(consul, tmp_path, script)


def test_an_intention_of_consuls_own_cli_takes_effect(consul, tmp_path) -> None:
    """And what nodeagent writes, Consul decides by."""

    async def script(scene) -> None:
        await until(lambda: scene.pairs() == [], "none")
        scene.consul_cli("intention", "create", "shop", "web")
        await until(lambda: scene.pairs() == ["shop -> web allow"], "an allow")
        scene.consul_cli("intention", "create", "-replace", "-deny", "shop", "web")
        await until(lambda: scene.pairs() == ["shop -> web deny"], "a deny")
        client = Client(scene.table, consul.token)
        await asyncio.to_thread(change, client, "web", lambda entry: with_source(entry, Intention("shop", "web", "allow")))
        await until(lambda: scene.pairs() == ["shop -> web allow"], "an allow of ours")
        assert "Allowed" in scene.consul_cli("intention", "check", "shop", "web")
        assert [str(row) for row in read_intentions(client)] == [str(Intention("shop", "web", "allow"))]
        await asyncio.to_thread(change, client, "web", lambda entry: without_source(entry, "shop", "web"))
        await until(lambda: scene.pairs() == [], "none again")
        assert scene.follower.alarms() == ()

    played(consul, tmp_path, script)


def test_certificates_are_connects(consul, tmp_path) -> None:
    """For the services that the token may write, and for no other."""

    async def script(scene) -> None:
        scene.identity.need(frozenset({"web", "db"}))
        await until(lambda: scene.names() == ["web"], "the certificate")
        domain = scene.master.ok("GET", "/v1/connect/ca/roots")["TrustDomain"]
        web = scene.identity.keepers["web"].svid
        assert str(web.spiffe_id) == f"spiffe://{domain}/ns/default/dc/dc1/svc/web"
        assert scene.rings[-1].trust_domain == domain
        assert 'service "db" { policy = "write" }' in scene.identity.keepers["db"].error

    played(consul, tmp_path, script)


def test_rights_that_are_missing_from_the_start_are_named(consul, tmp_path) -> None:
    """Without `agent` nobody is registered; without `intentions` nothing is allowed, and it is said why."""

    async def script(scene) -> None:
        await until(lambda: 'agent "host1"' in scene.follower.pulse_error, "the complaint")
        await until(lambda: any("every service" in text for text in scene.follower.alarms()), "the alarm")

    played(consul, tmp_path, script, rules='node_prefix "" { policy = "read" } service_prefix "" { policy = "read" intentions = "deny" }')
