"""Addresses in their one spelling."""

import ipaddress

import pytest

from nodeagent.model.address import Address, canonical_ip, parse_address, special_kind


@pytest.mark.parametrize(
    ("text", "ip"),
    [("10.0.0.1", "10.0.0.1"), ("FD00:0::1", "fd00::1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("fe80::1%eth0", "fe80::1")],
)
def test_an_ip_has_one_spelling(text: str, ip: str) -> None:
    """Tables keyed by it find what a socket reports in another spelling."""
    assert ip == canonical_ip(text)


@pytest.mark.parametrize("text", ["", "10.0.0", "010.0.0.1", "host", "10.0.0.1/8", "1:2", "%"])
def test_what_is_no_ip_is_refused(text: str) -> None:
    """Octal-looking octets too: two readers would disagree about them."""
    with pytest.raises(ValueError, match="does not appear"):
        canonical_ip(text)


@pytest.mark.parametrize("address", [Address("10.0.0.1", 80), Address("fd00::1", 65535), Address("::", 1)])
def test_an_address_survives_its_text(address: Address) -> None:
    """IPv6 in brackets."""
    assert address == parse_address(str(address))


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:+80", "10.0.0.1:8 0", "fd00::1:80", "[10.0.0.1]:80", "[[::1]]:80",
     "[fd00::1]", "[fd00::1:80", ":80", "", "a:80", "10.0.0.1:\u0663", "[fe80::1%eth0]:80", "10.0.0.1:" + 60 * "0" + "80"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    """ValueError and nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the standard library's in part
        parse_address(text)


def test_what_a_peer_says_is_not_repeated_at_length() -> None:
    """It gets into logs and rows."""
    with pytest.raises(ValueError, match="too long") as caught:
        parse_address(f"[fd00::1%{'x' * 60_000}]:80")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("127.8.0.1", "loopback"), ("::1", "loopback"), ("::", "unspecified"), ("0.0.0.0", "unspecified"), ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"), ("fe80::1", "link-local"), ("169.254.0.1", "IPv4 link-local"),
        ("10.0.0.1", ""), ("fd00::1", ""), ("203.0.113.7", ""),
    ],
)  # fmt: skip
def test_what_means_no_single_machine_has_a_kind(text: str, kind: str) -> None:
    """A network has one where all of it has."""
    assert special_kind(ipaddress.ip_address(text)) == kind
    assert special_kind(ipaddress.ip_network("127.0.0.0/8")) == "loopback"
    assert special_kind(ipaddress.ip_network("0.0.0.0/0")) == special_kind(ipaddress.ip_network("::/0")) == ""
