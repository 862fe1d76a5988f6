"""firewalld and ufw beside the agent: neither takes anything from the other, and the doctor knows what to allow."""

import json
from typing import NamedTuple

import pytest

from tests.hosts.support.host import Host
from tests.hosts.support.mesh import Mesh, call, wait_meshed

pytestmark = pytest.mark.timeout(600)


class Firewall(NamedTuple):
    """How an operator deals with it."""

    on: str
    reload: str
    off: str


FIREWALLS = {
    "firewalld": Firewall("systemctl start firewalld", "firewall-cmd --reload", "systemctl stop firewalld"),
    "ufw": Firewall("ufw --force enable", "ufw reload", "ufw disable"),
}


@pytest.mark.parametrize("name", FIREWALLS)
def test_a_firewall_and_the_mesh_leave_each_other_alone(whole: Mesh, host: Host, name: str) -> None:
    """It keeps tunnels out until it is told; then calls pass in both directions, over its reload and its end, too."""
    firewall, other, repairs = FIREWALLS[name], whole.other(host), repairs_of(host)
    host.run(firewall.on)
    try:
        other.enter("systemctl", "restart", "nodeagent")  # what was open before the firewall stays open
        wait_meshed(other)
        assert call(other, host).startswith("curl: ")
        assert call(host, other) == f"from {other.name}\n"
        host.run(cure_of(host, name))
        assert call(other, host) == f"from {host.name}\n"
        host.run(firewall.reload)
        calls_pass(whole, host)
    finally:
        host.run(firewall.off)
    calls_pass(whole, host)
    assert host.run("nodeagent", "intercept", "verify").returncode == 0
    assert repairs_of(host) == repairs


def cure_of(host: Host, name: str) -> str:
    """The command that the doctor's finding about this firewall ends with."""
    report = json.loads(host.run("nodeagent check -o json", check=False).stdout)
    (finding,) = [each for each in report["findings"] if each["found"].startswith(f"{name} is in use")]
    return str(finding["cure"].partition(": ")[2])


def repairs_of(host: Host) -> int:
    """How often the agent has found its rules changed."""
    return host.messages("nodeagent").count('"interception_repaired"')


def calls_pass(mesh: Mesh, host: Host) -> None:
    """In both directions, by new tunnels: those of before are with workers that take no new calls."""
    host.enter("systemctl", "restart", "nodeagent")
    wait_meshed(host)
    for caller in mesh.hosts:
        assert call(caller, mesh.other(caller)) == f"from {mesh.other(caller).name}\n"
