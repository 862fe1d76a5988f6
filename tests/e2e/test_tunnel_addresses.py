"""A service that is registered at one address of its host is the mesh's at each: the callee's kernel captures the port at all."""

import json
import time

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.support import mesh
from tests.e2e.support.peers import Pair, start_peer
from tests.e2e.support.wire import Wire

PORTS = {"ipv4": 7300, "ipv6": 7301}
"""By the family in which the service is registered."""


@pytest.fixture(scope="module", autouse=True)
def registered(lab: Lab) -> None:
    """`ipv4` and `ipv6` on host2, each at the one address; shop may call both."""
    for family, port in PORTS.items():
        lab.register("host2", family, port, addresses=(getattr(lab.host("host2"), family),))
        mesh.allow(lab, "shop", family)


@pytest.mark.parametrize(("registered_at", "called"), [("ipv4", "ipv6"), ("ipv6", "ipv4")])
def test_a_call_to_the_other_address_goes_in_a_tunnel(lab: Lab, wire: Wire, canary: str, registered_at: str, called: str) -> None:
    """Nothing of it is readable on the wire, the application sees the caller's address, and `why` says the same."""
    ip, caller, port = getattr(lab.host("host2"), called), getattr(lab.host("host1"), called), PORTS[registered_at]
    began = time.time()
    with start_peer(lab, "host2", registered_at, str(port)) as server, start_peer(lab, "host1", "shop") as client:
        assert Pair(client, server, ip, port).open() == caller
        client.do("send", "a", canary * 2000)
        assert server.do("recv", "a", len(canary) * 2000) == canary * 2000
        server.do("leave", "a", canary, 1)
        assert client.do("recv", "a", len(canary) + 1) == f"{canary}<EOF>"
        client.do("close", "a")
    (row,) = mesh.calls_since(lab, "host1", began)
    assert (row.source, row.destination, row.path, row.peer, row.reason) == ("shop", registered_at, "tunnel", "host2", "ok")
    wire.assert_never_in_clear(canary)
    assert why(lab, "--from", "shop", "--to", registered_at, "--address", row.original_dst) == (0, True)
    assert why(lab, row.id) == (0, True)


@pytest.mark.parametrize(("caller", "reason"), [("thief", "denied"), ("", "unidentified")])
def test_nobody_else_reaches_it_there(lab: Lab, caller: str, reason: str) -> None:
    """The caller's own agent says so already, and so does `why`."""
    ip, port, began = lab.host("host2").ipv6, PORTS["ipv4"], time.time()
    with start_peer(lab, "host1", caller) as client:
        assert client.is_reset(ip, port)
    (row,) = mesh.calls_since(lab, "host1", began)
    assert (row.destination, row.path, row.reason) == ("ipv4", "none", reason)
    assert why(lab, row.id) == (1, False)


def why(lab: Lab, *arguments: str) -> tuple[int, bool]:
    """Exit status of `nodeagent why` on host1, and whether such a call would pass now."""
    done = lab.exec("host1", "nodeagent", "why", *arguments, "-o", "json")
    answer = json.loads(done.stdout)
    return done.returncode, answer["passes_now"] if answer.get("connection") else answer["passes"]
