"""An application that is down refuses at once, whichever way a call takes: the kernel's answer finds back to the agent."""

import time

import pytest

from nodeagent.lab.lab import Lab
from redirect.sysctl import SYSCTLS
from tests.e2e.support import mesh
from tests.e2e.support.peers import start_peer

PORT = 7300
WITHIN_S = 5.0  # it takes milliseconds; the agent waits for an application that does not answer for longer than this


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
        begun = time.monotonic()
        assert client.is_reset(callee.ipv4 if family == 4 else callee.ipv6, PORT)
        assert time.monotonic() - begun < WITHIN_S
    (row,) = mesh.calls_since(lab, caller, began)
    assert (row.reason, row.side, row.path, row.destination) == ("upstream_refused", "upstream", path, "down")
