"""An application that is down refuses at once, whichever way a call takes: the kernel's answer finds back to the agent."""

import time

import pytest

from nodeagent import limits
from nodeagent.lab.lab import Lab
from redirect.sysctl import SYSCTLS
from tests.e2e.support import mesh
from tests.e2e.support.peers import Peer, start_peer

PORT = 7300
CALLS = 3
WITHIN_S = 5.0  # it takes milliseconds; the fastest shows that no timer ran, however busy the machine is


@pytest.fixture(scope="module", autouse=True)
def down(lab: Lab) -> None:
    """`down` is registered on host2 and nobody listens; shop may call it."""
    lab.register("host2", "down", PORT)
    mesh.allow(lab, "shop", "down")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("caller", "path"), [("host1", "tunnel"), ("host2", "local")])
def test_a_call_to_an_application_that_is_down_is_refused_at_once(
    lab: Lab, caller: str, path: str, family: int
) -> None:
    """Each host has both settings, and each family needs its own."""
    reflecting = [s.name for s in SYSCTLS if s.name.endswith("fwmark_reflect")]
    assert lab.exec("host2", "sysctl", "-n", *reflecting).stdout.split() == ["1", "1"]
    callee, began = lab.host("host2"), time.time()
    with start_peer(lab, caller, "shop") as client:
        seconds = [refusal_s(client, callee.ipv4 if family == 4 else callee.ipv6) for _ in range(CALLS)]
    assert max(seconds) < WITHIN_S
    assert min(seconds) < limits.LOCAL_CONNECT_S
    for row in mesh.calls_since(lab, caller, began, CALLS):
        assert (row.reason, row.side, row.path, row.destination) == ("upstream_refused", "upstream", path, "down")


def refusal_s(client: Peer, address: str) -> float:
    """Seconds until the caller has its reset."""
    begun = time.monotonic()
    assert client.is_reset(address, PORT)
    return time.monotonic() - begun
