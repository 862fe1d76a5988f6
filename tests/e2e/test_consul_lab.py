"""The mesh with a real Consul 1.8.7 that denies by default: an agent on each host, and nothing of the embedded catalog."""

import json
from typing import Any

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.support.consul import binary
from tests.e2e.support.lab import HTTP
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

WITHIN_S = 30.0


class Cluster:
    """A lab with Consul on every host."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def consul(self, host: str, command: str, *argv: str) -> str:
        """What Consul's own command line says there, to the operator."""
        verb, *rest = argv
        options = ["-token-file", "/etc/nodeagent/operator.token"]
        return self.lab.exec(host, binary(), command, verb, *options, *rest).stdout

    def get(self, url: str, canary: str = "x") -> str:
        """The HTTP status that `shop` on host1 sees; `000`: none."""
        argv = ["curl", "-s", "-g", "-o", "/dev/null", "-m", "10", "-H", f"X-Note: {canary}", "-w", "%{http_code}", url]
        return self.lab.exec("host1", *argv, service="shop").stdout

    def ask(self, path: str) -> Any:
        """What Consul's agent on host1 answers the operator."""
        argv = ["sh", "-c", f'curl -s -H "X-Consul-Token: $(cat /etc/nodeagent/operator.token)" http://127.0.0.1:8500{path}']
        return json.loads(self.lab.exec("host1", *argv).stdout)


@pytest.fixture(scope="module")
def cluster(make_lab):
    return Cluster(make_lab(hosts=2, consul=binary()))


def test_an_intention_of_consuls_own_cli_opens_a_tunnel_and_ends_it(cluster: Cluster, capture, canary: str) -> None:
    """Services registered in Consul, certificates by Connect, over IPv4 and over IPv6, of which Consul's rows say nothing."""
    web = cluster.lab.host("host2")
    urls = [f"http://{web.ipv4}:8080/", f"http://[{web.ipv6}]:8080/"]
    cluster.lab.run("host2", "web", [*HTTP, "8080"])
    said = cluster.consul("host2", "services", "register", "-name", "web", "-port", "8080")
    assert "Registered service: web" in said
    for url in urls:
        eventually(lambda at=url: cluster.get(at) == "000", WITHIN_S, f"denied: {url}")
    wire: Wire = capture(cluster.lab)
    cluster.consul("host1", "intention", "create", "shop", "web")
    for url in urls:
        eventually(lambda at=url: cluster.get(at, canary) == "200", WITHIN_S, f"allowed: {url}")
    wire.assert_never_in_clear(canary)
    certs = json.loads(cluster.lab.exec("host1", "nodeagent", "certs", "-o", "json").stdout)
    assert certs["trust_domain"] == cluster.ask("/v1/connect/ca/roots")["TrustDomain"]
    cluster.consul("host1", "intention", "delete", "shop", "web")
    eventually(lambda: cluster.get(urls[0]) == "000", WITHIN_S, "denied again")


def test_the_commands_see_that_mesh(cluster: Cluster) -> None:
    """Intentions both ways, the host in maintenance, and nothing to complain of."""
    lab = cluster.lab
    assert lab.exec("host1", "nodeagent", "intention", "allow", "till", "web").returncode == 0
    assert "Allowed" in cluster.consul("host2", "intention", "check", "till", "web")
    assert lab.exec("host1", "nodeagent", "intention", "check", "till", "web").returncode == 0
    assert lab.exec("host1", "nodeagent", "intention", "delete", "till", "web").returncode == 0
    assert lab.exec("host2", "nodeagent", "drain").returncode == 0
    assert "_node_maintenance" in json.dumps(cluster.ask("/v1/health/node/host2"))
    assert lab.exec("host2", "nodeagent", "undrain").returncode == 0
    status = json.loads(lab.exec("host1", "nodeagent", "status", "-o", "json").stdout)
    assert (status["healthy"], status["problems"], status["warnings"]) == (True, [], [])


def test_a_service_is_run_and_stopped_as_in_any_lab(cluster: Cluster) -> None:
    """Registered with Consul's agent of its host."""
    cluster.lab.run("host2", "api", [*HTTP, "8081"], port=8081)
    assert [row["Node"]["Node"] for row in cluster.ask("/v1/health/service/api")] == ["host2"]
    assert cluster.lab.stop("host2", "api")
    eventually(lambda: cluster.ask("/v1/health/service/api") == [], WITHIN_S, "it is gone")


def test_the_mesh_goes_on_without_consuls_server(cluster: Cluster) -> None:
    """And hears of changes when it is back."""
    web = cluster.lab.host("host2")
    cluster.consul("host1", "intention", "create", "shop", "web")
    eventually(lambda: cluster.get(f"http://{web.ipv4}:8080/") == "200", WITHIN_S, "allowed")
    cluster.lab.kill_catalog()
    assert [cluster.get(f"http://{web.ipv4}:8080/") for _ in range(5)] == ["200"] * 5
    cluster.lab.start_catalog()
    assert "Deleted" in cluster.consul("host1", "intention", "delete", "shop", "web") or cluster.ask("/v1/connect/intentions") == []
    eventually(lambda: cluster.get(f"http://{web.ipv4}:8080/") == "000", WITHIN_S, "denied again")
