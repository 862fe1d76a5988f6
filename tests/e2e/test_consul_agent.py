"""What a real Consul 1.8.7's agent on a host says by itself: of its checks, and of servers that were replaced."""

import json
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.x509 import SubjectAlternativeName, UniformResourceIdentifier

from nodeagent.probe.consul_checks import looped_checks
from tests.e2e.catalog_process import Client
from tests.e2e.support.consul import Consul, binary, free_port

LEAF = "/v1/agent/connect/ca/leaf/"
TTL = {"Provider": "consul", "Config": {"LeafCertTTL": "72h", "RotationPeriod": "2160h", "PrivateKeyType": "ec", "PrivateKeyBits": 384}}
PATIENCE_S = 30.0


def until(look):
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


@pytest.fixture
def joined(tmp_path):
    """An agent that is no server; gives it, and where servers are to listen for it."""
    http, serf = free_port(), free_port()
    ports = {"http": http, "server": free_port(), "serf_lan": free_port(), "serf_wan": -1, "dns": -1, "grpc": -1}
    config = {"ports": ports, "node_name": "host1", "bind_addr": "127.0.0.1", "retry_join": [f"127.0.0.1:{serf}"], "retry_interval": "1s"}
    (tmp_path / "client.json").write_text(json.dumps(config))
    argv = [binary(), "agent", "-data-dir", tmp_path / "client", "-config-file", tmp_path / "client.json"]
    with (tmp_path / "client.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    yield Client(f"127.0.0.1:{http}", ""), {"http": free_port(), "server": free_port(), "serf_lan": serf, "serf_wan": -1, "dns": -1, "grpc": -1}
    process.kill()
    process.wait()


def domain_of(answer):
    names = x509.load_pem_x509_certificate(answer.json["CertPEM"].encode()).extensions.get_extension_for_class(SubjectAlternativeName).value
    return names.get_values_for_type(UniformResourceIdentifier)[0].removeprefix("spiffe://").partition("/")[0]


def test_an_agent_keeps_what_it_knew_of_the_servers_before(joined, tmp_path):
    """Where the new servers' index is behind. No header makes it look: of what it had it gives the old, and nothing else."""
    agent, ports = joined
    with Consul(tmp_path / "one", http=ports["http"], ports=ports) as first:
        old = first.client().ok("GET", "/v1/connect/ca/roots")["TrustDomain"]
        for number in range(40):
            first.client().ok("PUT", f"/v1/kv/{number}", b"x")
        first.client().ok("PUT", "/v1/connect/ca/configuration", TTL)  # the roots' index is high from now on
        until(lambda: agent.get(LEAF + "shop").status == 200 and agent.get("/v1/agent/connect/ca/roots").index > 40)
    with Consul(tmp_path / "two", http=ports["http"], ports=ports) as second:
        new = second.client().ok("GET", "/v1/connect/ca/roots")["TrustDomain"]
        until(lambda: (said := agent.get("/v1/connect/ca/roots")).status == 200 and said.json["TrustDomain"] == new)
        assert domain_of(agent.get(LEAF + "shop")) == domain_of(agent.get(LEAF + "shop?index=1&wait=1s")) == old
        refused = agent.get(LEAF + "other")
        assert (refused.status, "SPIFFE ID in CSR from a different trust domain" in refused.text) == (500, True)


def test_results_of_checks_say_where_was_dialled(tmp_path):
    with Consul(tmp_path, node="host1") as running:
        address, port = running.address.split(":")
        checks = [{"TCP": running.address, "Interval": "1s"}, {"HTTP": f"http://{running.address}/v1/status/leader", "Interval": "1s"}]
        running.client().ok("PUT", "/v1/agent/service/register", {"Name": "web", "Port": int(port), "Checks": checks})
        rows = lambda: running.client().get("/v1/health/node/host1").json  # noqa: E731 - asked again
        until(lambda: looped_checks(rows(), "web", (address,), int(port)) == ("service:web:1", "service:web:2"))
