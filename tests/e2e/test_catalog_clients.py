"""Other people's clients of Consul, unchanged, against the embedded catalog."""

import json
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import consul
import pytest
import requests
from consul.exceptions import ACLPermissionDenied, ConsulException

from tests.e2e.catalog_process import Process, token_command


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with Process(tmp_path_factory.mktemp("clients") / "data") as process:
        yield process


def client_of(process, secret=None):
    """py-consul with what its users say: host, port, scheme, token, CA."""
    address = urllib.parse.urlsplit("https://" + process.client().address)
    return consul.Consul(
        address.hostname, address.port, secret or process.client().token, "https", verify=str(process.data / "tls-ca.pem")
    )


@pytest.fixture(scope="module")
def root(running):
    made = client_of(running)
    assert made.catalog.register("host1", "10.0.0.1", dc="dc1", tagged_addresses={"lan_ipv6": "fd77::1"})
    return made


@pytest.fixture(scope="module")
def host(running, root):
    return client_of(running, token_command(running.data, "create", "--node", "host1", "--any-service"))


def test_checks(host):
    assert host.agent.service.register("beating", port=81, check=consul.Check.ttl("1h"))
    assert host.agent.check.register("port", check=consul.Check.tcp("127.0.0.1", 81, "10s", timeout="1s"), service_id="beating")
    assert host.agent.check.ttl_pass("service:beating", "all is well")
    found = host.agent.checks()
    assert {key: found[key]["Status"] for key in ("service:beating", "port")} == {"service:beating": "passing", "port": "critical"}
    ((row,),) = host.health.service("beating")[1:]
    assert {check["CheckID"] for check in row["Checks"]} == {"service:beating", "port"}
    assert host.health.service("beating", passing=True)[1] == []
    assert host.agent.check.ttl_warn("service:beating")
    assert [check["CheckID"] for check in host.health.state("warning")[1]] == ["service:beating"]
    assert host.agent.check.ttl_fail("service:beating")
    assert host.agent.check.deregister("port")
    assert [check["CheckID"] for check in host.health.checks("beating")[1]] == ["service:beating"]
    assert host.agent.service.deregister("beating")


def test_catalog(root):
    service = {"service": "db", "id": "db1", "port": 5432, "tags": ["primary", "ssd"], "meta": {"zone": "a"}}
    assert root.catalog.register("host2", "10.0.0.2", service)
    assert root.catalog.datacenters() == ["dc1"]
    index, nodes = root.catalog.nodes(consistency="stale")
    assert int(index) > 0
    assert {node["Node"]: node["Address"] for node in nodes} == {"host1": "10.0.0.1", "host2": "10.0.0.2"}
    assert root.catalog.services(index=index, wait="10ms")[1]["db"] == ["primary", "ssd"]
    ((row,),) = root.catalog.service("db", tag="ssd")[1:]
    assert (row["Node"], row["ServiceID"], row["ServicePort"]) == ("host2", "db1", 5432)
    assert root.catalog.node("host2")[1]["Services"]["db1"]["Meta"] == {"zone": "a"}
    assert root.catalog.node("nobody")[1] is None
    assert root.catalog.deregister("host2", service_id="db1")
    assert root.catalog.deregister("host2")
    assert "host2" not in str(root.catalog.nodes()[1])


def test_agent(host, root):
    """With a host's own token, which is what says whose agent this is."""
    assert host.agent.service.register(
        "web", service_id="web1", port=80, tags=["v1"], meta={"team": "a"}, weights={"Passing": 3, "Warning": 1},
        tagged_addresses={"lan_ipv6": {"Address": "fd77::1", "Port": 80}}, replace_existing_checks=True,
    )  # fmt: skip
    shown = host.agent.services()["web1"]
    assert (shown["Service"], shown["Port"], shown["Tags"], shown["Weights"]["Passing"]) == ("web", 80, ["v1"], 3)
    assert shown["TaggedAddresses"]["lan_ipv6"]["Address"] == "fd77::1"
    assert host.agent.maintenance(enable=True, reason="disk")
    assert [check["Notes"] for check in host.health.node("host1")[1]] == ["disk"]
    assert host.health.service("web", passing=True)[1] == []
    assert host.agent.maintenance(enable=False)
    assert host.agent.service.deregister("web1")
    assert "web1" not in host.agent.services()
    with pytest.raises(ACLPermissionDenied, match="a host's token is for that host alone"):
        host.catalog.register("host9", "10.0.0.9")
    with pytest.raises(ConsulException, match=r"400 .*which with \?node="):
        root.agent.services()


def test_health(host):
    host.agent.service.register("shop", port=80, tags=["v1", "blue"])
    index, rows = host.health.service("shop", passing=True, tag=["v1", "blue"])
    assert [(row["Node"]["Node"], row["Service"]["Port"], row["Checks"]) for row in rows] == [("host1", 80, [])]
    assert host.health.service("shop", tag=["v1", "red"])[1] == []
    assert host.health.service("shop", index=index, wait="10ms")[0] == index
    for text, count in (('Service.Tags contains "blue" and Checks is empty', 1), ("Node.Node != host1", 0)):
        assert len(host.health.service("shop", filter_expr=text)[1]) == count
    assert list(host.agent.services(filter_expr="Port == 80 and Service == shop")) == ["shop"]
    with pytest.raises(ConsulException, match=r"^400 \?filter=: Nod: no such field"):
        host.catalog.nodes(filter_expr="Nod == x")


def test_kv(root):
    index, nothing = root.kv.get("app/name")
    assert nothing is None
    assert root.kv.put("app/name", b"\x00\xff", flags=2**40)
    changed, value = root.kv.get("app/name", index=index, wait="10s")
    assert (value["Value"], value["Flags"], value["ModifyIndex"]) == (b"\x00\xff", 2**40, int(changed))
    assert root.kv.put("app/name", "x", cas=0) is False
    assert root.kv.put("app/name", "x", cas=value["ModifyIndex"]) is True
    assert root.kv.put("app/empty/", None)
    assert [row["Key"] for row in root.kv.get("app/", recurse=True)[1]] == ["app/empty/", "app/name"]
    assert root.kv.get("app/", keys=True, separator="/")[1] == ["app/empty/", "app/name"]
    assert root.kv.delete("app/name", cas=1) is False
    assert root.kv.delete("app/", recurse=True) is True
    assert root.kv.get("app/", keys=True)[1] is None


def test_config_and_connect(root):
    assert root.config.set("service-defaults", "shop", {"Protocol": "http"}) is True
    assert root.config.get("service-defaults", "shop")["Protocol"] == "http"
    assert [entry["Name"] for entry in root.config.list("service-defaults")] == ["shop"]
    assert root.config.set("service-defaults", "shop", {"Protocol": "tcp"}, cas=1) is False
    assert root.config.delete("service-defaults", "shop") is True
    intentions = root.connect.intentions
    assert intentions.upsert("shop", "db", action="allow", description="orders")
    assert intentions.read("shop", "db")["Action"] == "allow"
    assert (intentions.check("shop", "db"), intentions.check("web", "db")) == (True, False)
    assert [row["SourceName"] for row in intentions.match("destination", "db")["db"]] == ["shop"]
    assert len(intentions.list()) == 1
    assert intentions.delete("shop", "db")
    (shown,) = root.connect.ca.roots()["Roots"]
    assert root.agent.connect.ca.roots()["Roots"] == [shown]  # it sends no token there
    assert shown["RootCert"].startswith("-----BEGIN CERTIFICATE-----")


def test_acl(root, running):
    made = root.acl.token.create(
        node_identities=["host3:dc1"], service_identities=[{"ServiceName": "web"}], description="a host", local=False
    )
    assert root.acl.token.read(made["AccessorID"])["Description"] == "a host"
    assert made["AccessorID"] in [token["AccessorID"] for token in root.acl.token.list()]
    assert client_of(running, made["SecretID"]).acl.token.read_self()["NodeIdentities"] == [{"NodeName": "host3"}]
    assert root.acl.token.delete(made["AccessorID"])
    with pytest.raises(ACLPermissionDenied):
        client_of(running, made["SecretID"]).acl.token.read_self()


def test_status(root):
    assert root.status.peers() == [root.status.leader()]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda c: c.event.fire("deploy", "x"), "PUT /v1/event/fire/deploy"),
        (lambda c: c.event.list(), "GET /v1/event/list"),
        (lambda c: c.session.create(), "PUT /v1/session/create"),
        (lambda c: c.query.list(), "GET /v1/query"),
        (lambda c: c.coordinate.nodes(), "GET /v1/coordinate/nodes"),
        (lambda c: c.agent.members(), "GET /v1/agent/members"),
        (lambda c: c.agent.connect.ca.leaf("web"), "GET /v1/agent/connect/ca/leaf/web"),
        (lambda c: c.acl.policy.list(), "GET /v1/acl/policies"),
        (lambda c: c.catalog.nodes(near="host1"), r"the parameter \?near= of GET /v1/catalog/nodes"),
        (lambda c: c.kv.put("x", "y", acquire="z"), r"the parameter \?acquire= of PUT /v1/kv/"),
        (lambda c: c.agent.service.register("x", connect={"SidecarService": {}}), "Connect"),
    ],
)
def test_what_is_not_served_says_its_name(host, call, name):
    with pytest.raises(ConsulException, match=f"^501 .*{name}.* is not implemented"):
        call(host)


def test_the_agent_is_told_to_who_has_a_token(root):
    """py-consul sends none there, and a Consul that denies by default refuses it, too."""
    with pytest.raises(ACLPermissionDenied, match="answers nobody without a token"):
        root.agent.self()


def test_a_token_in_a_url_alone_opens_nothing(running, root):
    where, secret = root.http.base_uri, running.client().token
    pin = str(running.data / "tls-ca.pem")
    alone = requests.get(f"{where}/v1/catalog/nodes?token={secret}", verify=pin, timeout=30)
    assert alone.status_code == 403
    other = requests.get(f"{where}/v1/catalog/nodes?token=x", headers={"X-Consul-Token": secret}, verify=pin, timeout=30)
    assert (other.status_code, other.text) == (400, "a token in a URL ends up in logs: send it as X-Consul-Token")
    assert secret not in running.errors()


def test_the_npm_client_works_unchanged(running, root):
    """Registration, health, keys, a watch; what is not served is 501. It is installed beside the tests' environment."""
    secret = token_command(running.data, "create", "--node", "host1", "--any-service")
    address = urllib.parse.urlsplit("https://" + running.client().address)
    script = Path(__file__).parent / "support" / "npm_consul.js"
    modules = {"NODE_PATH": str(Path(sys.prefix) / "npm" / "node_modules"), "NODE_EXTRA_CA_CERTS": str(running.data / "tls-ca.pem")}
    argv = ["node", script, address.hostname, str(address.port), running.client().token, secret]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=os.environ | modules, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [said.pop(name)[0] for name in ("event", "session", "check", "stranger")] == [501, 501, 501, 403]
    leader = said.pop("leader")
    assert (leader, said.pop("peers")) == (running.client().address, [leader])
    assert "npm1" in said.pop("agent")
    assert said == {
        "services": ["v1"], "nodes": [["host1", 80]], "health": 1, "checks": [["npm1", "passing"]], "value": "1", "keys": ["npm/a"], "cas": False,
        "watched": ["1", "2"], "deleted": True, "gone": 0, "checked": ["warning", "critical", "passing"], "maintained": [["disk"], 0], "unchecked": 0,
        "registered": [[["far", 81]], ["host1"]], "datacenters": ["dc1"], "self": "host1", "values": ["1"],
    }  # fmt: skip
