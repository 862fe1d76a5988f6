"""What may reach this machine's applications."""

import pytest

from nodeagent.decide.authorize import Permit
from nodeagent.decide.inbound import decide_plaintext, decide_stream, mode_of
from nodeagent.decide.outbound import Via
from nodeagent.errors import BadDestination, Denied, PlaintextRefused, UnregisteredPort
from nodeagent.model.address import Address, OriginalDst
from tests.support.by_request import by_request
from tests.support.mesh import CART, HOST1, HOST2, HOST3, SHOP, WEB, instance, mesh

ALLOW = ("web -> cart allow",)


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_a_stream_needs_the_intention(mode: str) -> None:
    """The callee's agent enforces, whatever the caller's thought."""
    permit = Permit("web", "cart", "web -> cart (allow)")
    assert Via("local", CART, "cart", permit, None, "") == decide_stream(mesh(*ALLOW, mode=mode), "web", "cart", CART)
    for source in ("legacy", "shop", ""):
        with pytest.raises(Denied):
            decide_stream(mesh(*ALLOW, mode=mode), source, "cart", CART)


def test_observe_lets_a_stream_pass_and_says_what_it_would_do() -> None:
    """Tunnels are taken in every mode; observe refuses nothing."""
    for intentions, note in ((ALLOW, "would_allow: web -> cart (allow)"), ((), "would_deny: web -> cart (default deny)")):
        via = decide_stream(mesh(*intentions, mode="observe"), "web", "cart", CART)
        assert ("local", None, note) == (via.path, via.permit, via.note)


@pytest.mark.parametrize(
    ("service", "authority"),
    [
        ("cart", Address("10.77.0.1", 22)),
        ("cart", Address("127.0.0.1", 7000)),
        ("cart", Address("172.17.0.1", 7000)),
        ("cart", SHOP),
        ("shop", CART),
        ("web", WEB),
        ("cart", WEB),
        ("", CART),
        ("ghost", CART),
    ],
)
@pytest.mark.parametrize("mode", ["observe", "strict"])
def test_no_tunnel_is_an_open_proxy(service: str, authority: Address, mode: str) -> None:
    """Only the registered local address of the very service that the certificate named, in every mode."""
    with pytest.raises(BadDestination, match="not registered on host1"):
        decide_stream(mesh("* -> * allow", mode=mode), "web", service, authority)


def test_a_local_registration_for_another_machine_s_address_opens_nothing() -> None:
    """host1 registers `far` at an address of host2: its agent does not dial there for anyone."""
    snapshot = mesh("* -> * allow", far=(instance(HOST1, 5000, ips=("10.77.0.2",)),))
    with pytest.raises(BadDestination):
        decide_stream(snapshot, "web", "far", Address("10.77.0.2", 5000))


def test_a_second_service_at_one_address_opens_no_way_round_the_first() -> None:
    """`aaa`, registered on host3 over cart's address on host1, neither becomes nor replaces cart."""
    snapshot = mesh("* -> aaa allow", aaa=(instance(HOST3, 7000, ips=("10.77.0.1",)),))
    with pytest.raises(BadDestination):
        decide_stream(snapshot, "web", "aaa", CART)
    with pytest.raises(Denied):
        decide_stream(snapshot, "web", "cart", CART)


@pytest.mark.parametrize("address", [CART, Address("172.17.0.1", 7000), Address("fd77::1", 7000)])
def test_plaintext_at_a_local_service_goes_by_its_mode(address: Address) -> None:
    """Refused in strict, recorded in the others; at every local address."""
    for mode in ("observe", "permissive"):
        via = decide_plaintext(mesh(mode=mode), OriginalDst(address))
        assert Via("local", address, "cart", None, None, "plaintext") == via
    with pytest.raises(PlaintextRefused, match=r'cart .*mode = "permissive" under \[service.cart\]'):
        decide_plaintext(mesh(mode="strict"), OriginalDst(address))


def test_plaintext_where_nothing_is_registered_any_more_goes_as_configured() -> None:
    """Between a change of the catalog and of the kernel's rules a port may be captured without a service."""
    address = Address("10.77.0.1", 1234)
    assert Via("direct", address, "", None, None, "") == decide_plaintext(mesh(), OriginalDst(address))
    with pytest.raises(UnregisteredPort, match=r"10\.77\.0\.1:1234 on host1"):
        decide_plaintext(mesh(extra='[intercept]\nunregistered = "refuse"\n'), OriginalDst(address))


def test_a_claim_of_another_host_to_an_address_of_this_one_changes_nothing_here() -> None:
    """Neither where nothing is registered, nor at another address of a service that is: it stays that service."""
    evil = instance(HOST2, 1234, ips=("10.77.0.1",))
    address = Address("10.77.0.1", 1234)
    assert decide_plaintext(mesh(evil=(evil,)), OriginalDst(address)).service == ""
    snapshot = mesh(db=(instance(HOST1, 5432, ips=("10.77.0.1",)),), evil=(instance(HOST2, 5432, ips=("fd77::1",)),))
    with pytest.raises(PlaintextRefused, match="db"):
        decide_plaintext(snapshot, OriginalDst(Address("fd77::1", 5432)))


def test_the_mode_is_asked_as_for_calls() -> None:
    """A service's own mode counts for what arrives, too."""
    snapshot = mesh(extra='[service.cart]\nmode = "permissive"\n')
    assert mode_of(snapshot, "cart") == "permissive"
    assert decide_plaintext(snapshot, OriginalDst(CART)).note == "plaintext"


def test_a_stream_whose_requests_are_decided_one_by_one_is_taken() -> None:
    """The permit says so to whoever carries it."""
    here = by_request("web -> cart", protocol="http")
    via = decide_stream(here, "web", "cart", CART)
    assert via.permit is not None
    assert ("web -> cart (by request)", True) == (via.permit.by, via.permit.is_by_request)
    with pytest.raises(Denied, match="cart speaks grpc"):
        decide_stream(by_request("web -> cart", protocol="grpc"), "web", "cart", CART)
