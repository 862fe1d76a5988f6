"""The mesh with a real Consul 1.8.7: an agent on each host, a server on host3, and nothing of the embedded catalog."""

import json
import re
from pathlib import Path

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.support.consul import binary
from tests.e2e.support.lab import HTTP
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

WITHIN_S = 30.0
SERVER = "host3"
CATALOG = '[catalog]\naddress = "http://127.0.0.1:8500"\ntoken_file = ""\n\n'


class Cluster:
    """Consul on every host of a lab, and nodeagent on host1 and host2."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        for host in lab.state.members:
            self._start(host.name, host.ipv4, directory)
        eventually(lambda: self.consul("host1", "members").count("alive") == len(lab.state.members), WITHIN_S, "the cluster")
        for name in ("host1", "host2"):
            path = lab.host(name).own("etc") / "nodeagent.toml"
            path.write_text(re.sub(r"\[catalog\]\n.*?\n\n", CATALOG, path.read_text(), flags=re.DOTALL))
            lab.start_agent(name)

    def _start(self, name: str, ip: str, directory: Path) -> None:
        is_server = name == SERVER
        settings = {
            "node_name": name, "bind_addr": ip, "client_addr": "127.0.0.1", "data_dir": str(directory / name), "log_level": "warn",
            "retry_join": [self.lab.host(SERVER).ipv4], "retry_interval": "1s", "connect": {"enabled": True},
            "ports": {"dns": -1, "grpc": -1, "serf_wan": -1},
        }  # fmt: skip
        settings |= {"server": True, "bootstrap_expect": 1} if is_server else {}
        (directory / f"{name}.json").write_text(json.dumps(settings))
        self.lab.run(name, "consul", [binary(), "agent", "-config-file", str(directory / f"{name}.json")])

    def consul(self, host: str, *argv: str) -> str:
        """What Consul's own command line says there."""
        return self.lab.exec(host, binary(), *argv).stdout

    def get(self, url: str, canary: str = "x") -> str:
        """The HTTP status that `shop` on host1 sees; `000`: none."""
        argv = ["curl", "-s", "-g", "-o", "/dev/null", "-m", "10", "-H", f"X-Note: {canary}", "-w", "%{http_code}", url]
        return self.lab.exec("host1", *argv, service="shop").stdout


@pytest.fixture(scope="module")
def cluster(make_lab, tmp_path_factory):
    binary()
    return Cluster(make_lab(hosts=3, agents=False), tmp_path_factory.mktemp("consul"))


def test_an_intention_of_consuls_own_cli_opens_a_tunnel_and_ends_it(cluster: Cluster, capture, canary: str) -> None:
    """Services registered in Consul, certificates by Connect, over IPv4 and over IPv6, of which Consul's rows say nothing."""
    web = cluster.lab.host("host2")
    urls = [f"http://{web.ipv4}:8080/", f"http://[{web.ipv6}]:8080/"]
    cluster.lab.run("host2", "web", [*HTTP, "8080"])
    assert "Registered service: web" in cluster.consul("host2", "services", "register", "-name", "web", "-port", "8080")
    for url in urls:
        eventually(lambda at=url: cluster.get(at) == "000", WITHIN_S, f"denied: {url}")
    wire: Wire = capture(cluster.lab)
    cluster.consul("host1", "intention", "create", "shop", "web")
    for url in urls:
        eventually(lambda at=url: cluster.get(at, canary) == "200", WITHIN_S, f"allowed: {url}")
    wire.assert_never_in_clear(canary)
    roots = json.loads(cluster.lab.exec(SERVER, "curl", "-s", "http://127.0.0.1:8500/v1/connect/ca/roots").stdout)
    certs = json.loads(cluster.lab.exec("host1", "nodeagent", "certs", "-o", "json").stdout)
    assert certs["trust_domain"] == roots["TrustDomain"]
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
    assert "_node_maintenance" in lab.exec("host1", "curl", "-s", "http://127.0.0.1:8500/v1/health/node/host2").stdout
    assert lab.exec("host2", "nodeagent", "undrain").returncode == 0
    status = json.loads(lab.exec("host1", "nodeagent", "status", "-o", "json").stdout)
    assert (status["healthy"], status["problems"], status["warnings"]) == (True, [], [])
