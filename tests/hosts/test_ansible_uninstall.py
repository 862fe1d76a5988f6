"""A host that had the mesh and has it no more is as it was before; with defaults, it never refused anything."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.support.controller import Controller
from tests.hosts.support.dist import dist
from tests.hosts.support.host import Host
from tests.hosts.support.hosts import Hosts
from tests.hosts.support.traces import differences, traces

pytestmark = pytest.mark.timeout(900)

AGENT_ALONE = """
- hosts: nodeagent
  become: true
  roles:
    - role: nodeagent.mesh.agent
      vars: {nodeagent_state: absent, nodeagent_purge: true}
"""
ANNOUNCED = (
    "Deregister it", "Take the host itself out of the catalog", "Remove what holds the last connections", "Stop the catalog",
    "Stop the agent, then remove its rules", "Remove its files", "Remove the packages", "Remove the users", "Remove the groups",
)  # fmt: skip
RULES = "table inet own { chain input { type filter hook input priority 0; tcp dport 9 drop; }; }\n"


@pytest.fixture
def host(hosts: Hosts) -> Iterator[Host]:
    """One with firewall rules of its own."""
    with hosts.up("alone") as host:
        host.put("/etc/own.nft", RULES)
        host.put("/etc/own.secret", "secret")
        host.enter("nft", "-f", "/etc/own.nft")
        yield host


@pytest.fixture
def controller(hosts: Hosts, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with Controller(hosts, tmp_path_factory.mktemp("controller")) as made:
        listen = f"{host.address}:8501"
        variables = {
            "nodeagent_dist": str(dist()), "nodeagent_catalog_address": f"https://{listen}", "nodeagent_catalog_listen": listen,
            "nodeagent_services": [{"name": "web", "unit": "nginx.service", "port": 8080}],
        }  # fmt: skip
        made.inventory({"nodeagent_catalog": [host], "nodeagent": [host]}, {"all": variables})
        yield made


def test_nothing_is_left_but_the_state_and_with_purge_not_even_that(host: Host, controller: Controller, tmp_path: Path) -> None:
    """Rules, routes, users, units, packages and files are compared; so is what came and went in between, and check mode announces it."""
    before = traces(host)
    said = controller.play("site").said
    assert "only observes: NOTHING IS REFUSED" in said
    assert "own" in host.enter("nft", "list", "tables").stdout
    assert "nodeagent" in host.enter("nft", "list", "tables").stdout
    # As the agent's user could, the latter where fs.protected_hardlinks is off.
    host.enter("sh", "-c", "chown daemon /etc/own.nft && ln -s /etc/own.nft /var/lib/nodeagent/planted && ln /etc/own.secret /var/lib/nodeagent/linked")
    there = traces(host)
    would = {name.rpartition(" : ")[2] for name in controller.play("uninstall", "--check").changed("alone")}
    assert [] == [line for line in differences(there, traces(host)) if not line.startswith("rules: ")]  # those count, and beat
    assert host.show("nodeagent.service", "ActiveState") == "active"
    assert {*ANNOUNCED} - would == set()
    controller.play("uninstall", "-e", "nodeagent_purge=false")
    left = differences(before, traces(host))
    assert [] == [line for line in left if "/var/lib/nodeagent" not in line and not line.startswith("packages: ")]
    assert host.enter("stat", "--format=%a %U", "/var/lib/nodeagent-catalog").stdout == "700 root\n"
    controller.play("site")  # what was kept is used again
    assert host.enter("stat", "--format=%a %U", "/var/lib/nodeagent/planted", "/etc/own.nft").stdout == "777 nodeagent\n644 daemon\n"
    assert host.enter("stat", "--format=%U", "/etc/own.secret").stdout == "root\n"
    assert controller.play("site", "--check").count("alone", "changed") == 0
    (tmp_path / "alone.yml").write_text(AGENT_ALONE)
    controller.play(str(tmp_path / "alone.yml"))  # the packages stay for the catalog
    controller.play("site")  # and an agent that comes back finds its directories
    assert "alone: its token is gone from the host, and still good" in controller.play("uninstall", "-e", "nodeagent_purge=true").said
    assert [] == differences(before, traces(host))
    assert controller.play("uninstall", "-e", '{"nodeagent_purge": true}').count("alone", "changed") == 0


def test_the_first_day_touches_no_connection(host: Host, controller: Controller) -> None:
    """Installed and running, and not one rule in the kernel; nor after it is stopped again."""
    rules = traces(host)["rules"]
    controller.play("site", "-e", "nodeagent_intercept=false")
    assert host.show("nodeagent.service", "ActiveState") == "active"
    assert rules == traces(host)["rules"]
    controller.play("site", "-e", '{"nodeagent_state": "stopped"}')
    assert host.show("nodeagent.service", "ActiveState") == "inactive"
    assert rules == traces(host)["rules"]
