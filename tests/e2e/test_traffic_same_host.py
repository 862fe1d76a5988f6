"""Caller and callee on one host: identity and policy as anywhere, no tunnel, and nothing of it on the wire."""

import time

import pytest

from nodeagent import limits
from nodeagent.lab.lab import Lab
from nodeagent.lab.wire import read_streams
from tests.e2e.support import mesh
from tests.e2e.support.peers import Pair, start_peer
from tests.e2e.support.wire import Wire

PORT = 7200


@pytest.fixture(scope="module")
def policy(lab: Lab) -> None:
    """`echo` is registered on host2, and shop may call it."""
    lab.register("host2", "echo", PORT)
    mesh.allow(lab, "shop", "echo")


def bytes_in_tunnels(wire: Wire) -> int:
    """What has crossed the wire between agents since the capture began."""
    streams = read_streams(wire.read())
    return sum(len(data) for flow, data in streams.items() if limits.TUNNEL_PORT in (flow.source.port, flow.destination.port))


def talk(pair: Pair, text: str) -> str:
    """A call, an answer, the ends; the caller's address as the listener sees it."""
    seen = pair.open()
    pair.client.do("send", "a", text)
    assert pair.server.do("recv", "a", len(text)) == text
    pair.server.do("leave", "a", text, 1)
    assert pair.client.do("recv", "a", len(text) + 1) == f"{text}<EOF>"
    pair.client.do("close", "a")
    return seen


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("family", [4, 6])
def test_a_permitted_call_is_local_and_leaves_the_host_only_as_tls(
    lab: Lab, wire: Wire, canary: str, family: int
) -> None:
    """It takes no tunnel; the same call from the other host does, and neither is readable on the wire."""
    host, other = lab.host("host2"), lab.host("host1")
    ip, remote = (host.ipv4, other.ipv4) if family == 4 else (host.ipv6, other.ipv6)
    text, began = canary * 2000, time.time()
    with start_peer(lab, "host2", "echo", str(PORT)) as server:
        with start_peer(lab, "host2", "shop") as client:
            assert talk(Pair(client, server, ip, PORT), text) == ip
        (row,) = mesh.calls_since(lab, "host2", began)
        assert (row.source, row.unit, row.destination) == ("shop", "shop.service", "echo")
        assert (row.path, row.reason) == ("local", "ok")
        assert (row.permit, row.sent, row.received) == ("shop -> echo (allow)", len(text), len(text))
        assert bytes_in_tunnels(wire) < len(text)
        with start_peer(lab, "host1", "shop") as client:
            assert talk(Pair(client, server, ip, PORT), text) == remote
        assert bytes_in_tunnels(wire) > 2 * len(text)
    wire.assert_never_in_clear(canary)


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize(("caller", "reason"), [("thief", "denied"), ("", "unidentified")])
def test_a_call_without_permit_is_reset(lab: Lab, caller: str, reason: str) -> None:
    """Also by a neighbour, and the application never hears of it."""
    began = time.time()
    with start_peer(lab, "host2", "echo", str(PORT)) as server, start_peer(lab, "host2", caller) as client:
        assert client.is_reset(lab.host("host2").ipv4, PORT)
        (row,) = mesh.calls_since(lab, "host2", began)
        assert (row.source, row.reason, row.path, row.destination) == (caller, reason, "none", "echo")
        with start_peer(lab, "host2", "shop") as permitted:
            assert talk(Pair(permitted, server, lab.host("host2").ipv4, PORT), "hello")


@pytest.mark.usefixtures("policy")
def test_a_permit_that_is_taken_away_is_gone_for_local_calls_too(lab: Lab) -> None:
    """Of new connections."""
    mesh.allow(lab, "guest", "echo")
    began = time.time()
    with start_peer(lab, "host2", "echo", str(PORT)) as server, start_peer(lab, "host2", "guest") as client:
        pair = Pair(client, server, lab.host("host2").ipv4, PORT)
        assert talk(pair, "hello")
        mesh.deny(lab, "guest", "echo")
        assert client.is_reset(pair.ip, PORT)
        refused, allowed = mesh.calls_since(lab, "host2", began, 2)
        assert (allowed.reason, refused.reason) == ("ok", "denied")
