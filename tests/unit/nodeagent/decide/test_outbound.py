"""The table of modes, for calls of local workloads."""

import dataclasses

import msgspec
import pytest

from nodeagent.decide.authorize import Permit
from nodeagent.decide.outbound import Via, decide_outbound, would_decide
from nodeagent.decide.route import Elsewhere, ToHost, find_destination
from nodeagent.errors import AgentError, Denied, Loop, NoPeer, Unidentified, UnregisteredPort
from nodeagent.model.address import Address, OriginalDst
from tests.support.by_request import by_request
from tests.support.mesh import CART, HOST2, LEGACY, WEB, instance, mesh

ALLOW = ("shop -> web allow", "shop -> cart allow", "shop -> legacy allow")
WHERE = {"web": WEB, "cart": CART, "legacy": LEGACY}
SSH = Address("10.77.0.2", 22)


def decide(mode: str, source: str, service: str, intentions=(), extra: str = "") -> Via:
    snapshot = mesh(*intentions, mode=mode, extra=extra)
    return decide_outbound(snapshot, source, find_destination(snapshot, WHERE[service], dst_is_local=False))


# Every cell of the table: mode, caller, destination (web: has an agent, cart: this host, legacy: no agent), intention.
PASSES = [
    ("observe", "shop", "web", "allow", "direct", "would_allow: shop -> web (allow)"),
    ("observe", "shop", "web", "none", "direct", "would_deny: shop -> web (default deny)"),
    ("observe", "shop", "web", "deny", "direct", "would_deny: shop -> web (deny)"),
    ("observe", "", "web", "allow", "direct", "would_deny: unidentified -> web"),
    ("observe", "shop", "cart", "allow", "direct", "would_allow: shop -> cart (allow)"),
    ("observe", "shop", "cart", "none", "direct", "would_deny: shop -> cart (default deny)"),
    ("observe", "", "cart", "none", "direct", "would_deny: unidentified -> cart"),
    ("observe", "shop", "legacy", "none", "direct", "no_peer"),
    ("observe", "", "legacy", "none", "direct", "no_peer"),
    ("permissive", "shop", "web", "allow", "tunnel", ""),
    ("permissive", "", "web", "none", "direct", "unidentified"),
    ("permissive", "shop", "cart", "allow", "local", ""),
    ("permissive", "", "cart", "none", "local", "unidentified"),
    ("permissive", "shop", "legacy", "none", "direct", "no_peer"),
    ("permissive", "", "legacy", "none", "direct", "unidentified"),
    ("strict", "shop", "web", "allow", "tunnel", ""),
    ("strict", "shop", "cart", "allow", "local", ""),
]

REFUSED = [
    ("permissive", "shop", "web", "none", Denied, "nodeagent intention allow shop web"),
    ("permissive", "shop", "web", "deny", Denied, r"shop -> web \(deny\)"),
    ("permissive", "shop", "cart", "none", Denied, "nodeagent intention allow shop cart"),
    ("strict", "shop", "web", "none", Denied, "default deny"),
    ("strict", "shop", "web", "deny", Denied, r"shop -> web \(deny\)"),
    ("strict", "", "web", "allow", Unidentified, r"\[\[workload\]\]"),
    ("strict", "shop", "cart", "none", Denied, "default deny"),
    ("strict", "", "cart", "allow", Unidentified, "cart at 10.77.0.1:7000"),
    ("strict", "shop", "legacy", "allow", NoPeer, r"legacy at 10.77.0.3:5432 on host3 has no agent.*plaintext_ok"),
    ("strict", "", "legacy", "allow", Unidentified, "legacy"),
]


def intentions_for(service: str, which: str) -> tuple[str, ...]:
    return {"allow": ALLOW, "none": (), "deny": (f"shop -> {service} deny",)}[which]


@pytest.mark.parametrize(("mode", "source", "service", "which", "path", "note"), PASSES)
def test_what_passes_goes_this_way(mode, source, service, which, path, note) -> None:
    """Path and note of every cell that lets a call through; a permit where intentions are enforced, and only there."""
    via = decide(mode, source, service, intentions_for(service, which))
    assert (path, note, service, WHERE[service]) == (via.path, via.note, via.service, via.address)
    enforced = Permit(source, service, f"{source} -> {service} (allow)") if not note else None
    assert enforced == via.permit
    assert (HOST2 if path == "tunnel" else None) == via.peer


@pytest.mark.parametrize(("mode", "source", "service", "which", "error", "says"), REFUSED)
def test_what_is_refused_says_why(mode, source, service, which, error: type[AgentError], says) -> None:
    """Every cell that refuses, with the cure in its message."""
    with pytest.raises(error, match=says):
        decide(mode, source, service, intentions_for(service, which))


def test_plaintext_ok_needs_the_intention_too() -> None:
    """In strict mode a service without agent may be called in clear where it is listed, by those who are allowed."""
    extra = "[service.legacy]\nplaintext_ok = true\n"
    via = decide("strict", "shop", "legacy", ALLOW, extra)
    assert ("direct", "no_peer", "shop -> legacy (allow)") == (via.path, via.note, via.permit and via.permit.by)
    with pytest.raises(Denied, match="default deny"):
        decide("strict", "shop", "legacy", (), extra)
    with pytest.raises(Unidentified):
        decide("strict", "", "legacy", ALLOW, extra)


def test_the_mode_of_the_service_decides_not_the_host_s() -> None:
    """One service may be stricter, or less strict, than its callers' host."""
    assert decide("strict", "shop", "web", (), '[service.web]\nmode = "observe"\n').path == "direct"
    with pytest.raises(Unidentified):
        decide("observe", "", "web", (), '[service.web]\nmode = "strict"\n')


@pytest.mark.parametrize("mode", ["permissive", "strict"])
@pytest.mark.parametrize("which", ["allow", "none", "deny"])
@pytest.mark.parametrize("plaintext_ok", ["true", "false"])
def test_a_known_caller_never_goes_in_clear_to_a_meshed_address(mode: str, which: str, plaintext_ok: str) -> None:
    """A tunnel or a refusal; whatever the intentions and exceptions."""
    extra = f"[service.web]\nplaintext_ok = {plaintext_ok}\n"
    try:
        via = decide(mode, "shop", "web", intentions_for("web", which), extra)
    except Denied:
        assert which != "allow"
    else:
        assert (via.path, via.peer) == ("tunnel", HOST2)


def test_an_unknown_machine_is_as_one_without_agent() -> None:
    """An instance whose node the catalog does not show is not believed to have an agent."""
    snapshot = mesh("shop -> db allow", db=(instance(HOST2, 5432, ips=("10.99.0.9",)),))
    to = find_destination(snapshot, Address("10.99.0.9", 5432), dst_is_local=False)
    orphan = type(to)(to.service, to.instance, to.address, None, is_local=False)
    with pytest.raises(NoPeer, match=r"db at 10.99.0.9:5432 has no agent"):
        decide_outbound(snapshot, "shop", orphan)


@pytest.mark.parametrize("destination", [ToHost(HOST2, SSH), Elsewhere(SSH)])
@pytest.mark.parametrize("source", ["shop", ""])
@pytest.mark.parametrize("mode", ["observe", "permissive", "strict"])
def test_unregistered_ports_pass_unless_they_are_refused(destination, source: str, mode: str) -> None:
    """The unit of refusal is a registered address and port, in every mode and for every caller."""
    assert Via("direct", SSH, "", None, None, "") == decide_outbound(mesh(mode=mode), source, destination)
    refusing = mesh(mode=mode, extra='[intercept]\nunregistered = "refuse"\n')
    with pytest.raises(UnregisteredPort, match=r"10.77.0.2:22.*nodeagent service register NAME --port 22"):
        decide_outbound(refusing, source, destination)


@pytest.mark.parametrize("source", ["shop", ""])
@pytest.mark.parametrize("mode", ["observe", "permissive", "strict"])
@pytest.mark.parametrize("registered", [False, True])
def test_nobody_calls_the_tunnel_port_of_another_agent(source: str, mode: str, *, registered: bool) -> None:
    """Not where somebody registers a service there either; at a machine without an agent it is a port as any other."""
    there = {"db": (instance(HOST2, HOST2.tunnel_port),)} if registered else {}
    snapshot = mesh("shop -> db allow", mode=mode, **there)
    with pytest.raises(Loop, match=r"10.77.0.2:15008 is where the agent of host2 takes tunnels"):
        decide_outbound(snapshot, source, find_destination(snapshot, Address("10.77.0.2", 15008), dst_is_local=False))
    bare = find_destination(snapshot, Address("10.77.0.3", 15008), dst_is_local=False)
    assert isinstance(bare, ToHost)
    assert decide_outbound(snapshot, source, bare).path == "direct"


def test_requests_are_decided_where_an_agent_reads_them() -> None:
    """By the callee's, or on this host by this one; towards a machine without an agent nobody does."""
    web, legacy = by_request("shop -> web"), by_request("shop -> legacy")
    via = decide_outbound(web, "shop", find_destination(web, OriginalDst(WEB), dst_is_local=False))
    assert ("tunnel", True) == (via.path, via.permit and via.permit.is_by_request)
    bare = dataclasses.replace(legacy, mesh=msgspec.structs.replace(legacy.mesh, plaintext_ok=("legacy",)))
    with pytest.raises(Denied, match="no agent reads the requests on the way to legacy"):
        decide_outbound(bare, "shop", find_destination(bare, OriginalDst(LEGACY), dst_is_local=False))
    assert ["would_allow: shop -> web (by request)", "would_deny: shop -> web (by request)"] == [
        would_decide(by_request("shop -> web", protocol=protocol), "shop", "web") for protocol in ("http", "grpc")
    ]
