"""While an agent runs, its rules stay: what is taken out of a set comes back, and removing them all is refused."""

import pytest

from nodeagent import limits
from nodeagent.lab.lab import Lab
from redirect.cgroup import element_of, read_mount
from tests.e2e.support.lab import HTTP
from tests.e2e.support.look import log_lines, status
from tests.support.eventually import eventually

PORT = 8080
WITHIN_S = 10 * limits.DRIFT_S


@pytest.fixture(scope="module", autouse=True)
def shop(lab: Lab) -> None:
    """A service on the second host, so that there is something to capture on both."""
    lab.run("host2", "shop", [*HTTP, str(PORT)], port=PORT)
    for host, element in (("host1", f"mesh4 {{ {lab.host('host2').ipv4} }}"), ("host2", f"local_ports {{ {PORT} }}")):
        eventually(lambda host=host, element=element: has(lab, host, element), WITHIN_S, f"{element} on {host}")


def has(lab: Lab, host: str, element: str) -> bool:
    """Whether the kernel of that host has it."""
    return lab.exec(host, "nft", "get", "element", "inet", "nodeagent", element).returncode == 0


def repairs(lab: Lab, host: str) -> int:
    """What `nodeagent status` counts."""
    number: int = status(lab, host)["interception"]["repairs"]
    return number


@pytest.mark.parametrize("family", [4, 6])
def test_a_deleted_address_is_captured_again(lab: Lab, family: int) -> None:
    """Until then, calls to it are in clear: the log and the counter say that it happened."""
    peer = lab.host("host2")
    address = peer.ipv4 if family == 4 else peer.ipv6
    assert_is_put_back(lab, "host1", f"mesh{family}", str(address))


def test_a_deleted_port_is_captured_again(lab: Lab) -> None:
    """Until then, callers from outside reach the application around the agent."""
    assert_is_put_back(lab, "host2", "local_ports", str(PORT))


def assert_is_put_back(lab: Lab, host: str, name: str, value: str) -> None:
    element = f"{name} {{ {value} }}"
    before = repairs(lab, host)
    assert lab.exec(host, "nft", "delete", "element", "inet", "nodeagent", element).returncode == 0
    assert not has(lab, host, element)
    eventually(lambda: has(lab, host, element), WITHIN_S, f"{element} is back")
    eventually(lambda: repairs(lab, host) == before + 1, WITHIN_S, "the repair is counted")
    last = log_lines(lab, host, "interception_repaired")[-1]
    assert f"set {name}: elements missing: 1, such as {value}" in last["why"]
    assert last["repairs"] == before + 1


def test_rules_go_when_the_agent_has_been_stopped_and_not_before(lab: Lab) -> None:
    """No call leaves in clear because somebody mistook the order; the cure that the refusal names works."""
    before = repairs(lab, "host1")
    done = lab.exec("host1", "nodeagent", "intercept", "remove", "--now")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"nodeagent lab agent --name {lab.name} host1 stop" in done.stderr
    assert lab.exec("host1", "nodeagent", "intercept", "verify").returncode == 0
    assert has(lab, "host1", f"mesh4 {{ {lab.host('host2').ipv4} }}")
    assert repairs(lab, "host1") == before
    lab.stop_agent("host1")
    done = lab.exec("host1", "nodeagent", "intercept", "remove")
    assert done.returncode == 0, done.stderr
    assert "table inet nodeagent: removed" in done.stdout
    lab.start_agent("host1")
    eventually(lambda: has(lab, "host1", f"mesh4 {{ {lab.host('host2').ipv4} }}"), WITHIN_S, "captured again")


def test_a_deleted_unit_is_stamped_again(lab: Lab) -> None:
    """Its callers are named by the slower look-up until then. No repair: units come and go, and are written at each check."""
    before = repairs(lab, "host2")
    element = f"units {{ {element_of(read_mount(), lab.host('host2').unit_cgroup('shop'))} }}"
    eventually(lambda: has(lab, "host2", element), WITHIN_S, "the unit is stamped")
    assert lab.exec("host2", "nft", "delete", "element", "inet", "nodeagent", element).returncode == 0
    eventually(lambda: has(lab, "host2", element), WITHIN_S, "the unit is stamped again")
    assert repairs(lab, "host2") == before
