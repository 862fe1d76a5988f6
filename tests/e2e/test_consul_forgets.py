"""What a real Consul forgets for a moment stays in the mesh: strict traffic does not leave in clear, and no protected port opens."""

import re
import time
from collections.abc import Iterator
from subprocess import Popen
from typing import Any

import pytest

from nodeagent.lab import consul
from nodeagent.lab.lab import Lab
from tests.e2e.support.called import WATCHED_S, WITHIN_S, Called
from tests.e2e.support.consul import binary
from tests.support.eventually import eventually


class Site(Called):
    """With Consul on every host."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self._agents: list[Popen[str]] = []

    def operate(self, method: str, path: str, body: object = None) -> Any:
        """As the operator, at the server."""
        hub = self.lab.host("hub")
        return consul.call(hub, self.lab.state.holders["hub"], consul.management_token(hub), method, path, body)

    def is_shown(self) -> bool:
        return bool(self.operate("GET", "/v1/health/service/web"))

    def leave(self) -> None:
        """Consul's agent of host2 leaves, as by `systemctl stop` with Consul's own default, and is gone from the catalog."""
        argv = [binary(), "leave", "-token-file", "/etc/nodeagent/operator.token"]
        assert self.lab.exec("host2", *argv).returncode == 0
        eventually(lambda: not self.operate("GET", "/v1/catalog/node/host2"), WITHIN_S, "it left")

    def come_back(self) -> None:
        """Consul's agent of host2 starts (again), which has it tell the servers all that it has."""
        self.close()
        path = self.lab.host("host2").directory / "consul" / "consul.json"
        self._agents.append(self.lab.popen("host2", [binary(), "agent", "-config-file", str(path)], text=True))
        eventually(self.is_shown, WITHIN_S, "it is back")

    def held_s(self, host: str) -> int:
        """How long a host still believes in the trust domain of before."""
        found = re.search(r"for (\d+) s more", self.status(host))
        assert found is not None
        return int(found[1])

    def close(self) -> None:
        while self._agents:
            agent = self._agents.pop()
            agent.kill()
            agent.wait(WITHIN_S)

    def wipe(self) -> None:
        """The server loses its data; tokens are made again with the secrets that they had."""
        tokens = {host: self.lab.node_token(host) for host in ("host1", "host2")}
        self.lab.kill_catalog()
        data = self.lab.host("hub").directory / "consul" / "data"
        assert self.lab.exec("hub", "rm", "-rf", str(data)).returncode == 0
        self.lab.start_catalog()
        for host, secret in tokens.items():
            policy = {"Name": f"agents-of-{host}", "Rules": consul._RULES.format(host=host)}
            self.operate("PUT", "/v1/acl/policy", policy)
            self.operate("PUT", "/v1/acl/token", {"SecretID": secret, "Policies": [{"Name": policy["Name"]}]})


@pytest.fixture(scope="module")
def site(make_lab) -> Iterator[Site]:
    site = Site(make_lab(hosts=2, workers=1, consul=binary()))
    yield site
    site.close()


def test_a_host_that_leaves_consul_and_comes_back(site: Site, capture, canary: str) -> None:
    """`consul leave` takes the host and all its services out of the catalog."""
    with site.calling(capture(site.lab), canary):
        site.leave()
        eventually(lambda: "host2: the catalog no longer" in site.status("host1"), WITHIN_S, "the alarm")
        assert "web: its instances on host2 vanished with the host" in site.status("host1")
        time.sleep(WATCHED_S)
        site.come_back()
        time.sleep(WATCHED_S)


def test_a_host_that_somebody_takes_out_of_the_catalog(site: Site, capture, canary: str) -> None:
    """Its own Consul agent brings it back with the next anti-entropy, a minute later, or when it starts."""
    with site.calling(capture(site.lab), canary):
        site.operate("PUT", "/v1/catalog/deregister", {"Node": "host2"})
        eventually(lambda: not site.is_shown(), WITHIN_S, "it is gone")
        eventually(lambda: "web: the catalog has forgotten that it runs on this host" in site.status("host2"), WITHIN_S, "the alarm")
        time.sleep(WATCHED_S)
        site.come_back()
        time.sleep(WATCHED_S)


def test_a_service_that_somebody_takes_out_of_the_catalog(site: Site, capture, canary: str) -> None:
    """The host stays; its Consul agent still has the service."""
    (row,) = site.operate("GET", "/v1/health/service/web")
    with site.calling(capture(site.lab), canary):
        site.operate("PUT", "/v1/catalog/deregister", {"Node": "host2", "ServiceID": row["Service"]["ID"]})
        eventually(lambda: "this host's Consul agent still has it" in site.status("host2"), WITHIN_S, "the alarm")
        time.sleep(WATCHED_S)
        site.come_back()


def test_a_mark_that_somebody_takes_out_of_the_catalog(site: Site, capture, canary: str) -> None:
    """By which the catalog knows that an agent is there, and at which further addresses; the agent puts it back."""
    with site.calling(capture(site.lab), canary):
        site.operate("PUT", "/v1/catalog/deregister", {"Node": "host2", "ServiceID": "nodeagent"})
        time.sleep(WATCHED_S)


def test_a_server_that_lost_everything(site: Site, capture, canary: str) -> None:
    """Another cluster id, no services, no intentions: nothing of that is believed for five minutes."""
    with site.calling(capture(site.lab), canary):
        site.wipe()
        eventually(lambda: "it is another catalog, or lost its data" in site.status("host1"), WITHIN_S, "the alarm")
        time.sleep(3 * WATCHED_S)


def test_an_agent_that_starts_while_another_cluster_answers(site: Site, capture, canary: str) -> None:
    """It goes on with what was, and hears what is new: a deny, and no longer than until the end that its neighbours know."""
    with site.calling(capture(site.lab), canary):
        site.lab.reload_agent("host1")
        assert "is in force: it is another catalog" in site.status("host1")
        eventually(lambda: "saved snapshot" not in site.status("host1"), WITHIN_S, "it hears the catalog")
        assert site.held_s("host1") <= site.held_s("host2") + WATCHED_S
        time.sleep(WATCHED_S)
    assert site.lab.exec("host1", "nodeagent", "intention", "deny", "shop", "web").returncode == 0
    eventually(lambda: "deny shop" in site.lab.exec("host1", "nodeagent", "services").stdout, WITHIN_S, "the deny")
