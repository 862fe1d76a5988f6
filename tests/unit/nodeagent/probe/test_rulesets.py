"""Listings of rule sets, as nft and iptables print them."""

import pytest

from nodeagent.probe.rulesets import manager_marks, parse_priority, read_nft, redirections_of

NFT = """\
table inet nodeagent {
	chain out {
		type nat hook output priority -101; policy accept;
		meta l4proto tcp redirect to :15001
	}
}
table ip nat {
	set names {
		type ipv4_addr
		elements = { 10.0.0.1 }
	}

	chain PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
		tcp dport 80 counter packets 0 bytes 0 redirect to :8080
		jump DOCKER
	}

	chain DOCKER {
		counter packets 1 bytes 2 dnat to 172.17.0.2:80
	}

	chain OUTPUT {
		type nat hook output priority -100; policy accept;
		ip protocol tcp counter packets 0 bytes 0 jump ISTIO_OUTPUT
	}

	chain ISTIO_OUTPUT {
		counter packets 0 bytes 0 goto ISTIO_REDIRECT
	}

	chain ISTIO_REDIRECT {
		ip protocol tcp counter packets 0 bytes 0 redirect to :15001
	}
}
table inet other {
	chain early {
		type filter hook prerouting priority mangle - 5; policy accept;
		meta l4proto tcp tproxy to :9999
	}
	chain loop {
		jump loop
		xt target "REDIRECT"
	}
}
"""
LEGACY = """\
*mangle
:PREROUTING ACCEPT [0:0]
:nodeagent_pre - [0:0]
-A PREROUTING -p tcp -j TPROXY --on-port 15006
-A nodeagent_pre -p tcp -j TPROXY --on-port 15006
COMMIT
*nat
:OUTPUT ACCEPT [0:0]
:ufw-before-output - [0:0]
-A OUTPUT -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080
-A OUTPUT -p tcp -j ACCEPT
COMMIT
"""


def test_redirections_of_others_with_the_place_from_which_they_are_reached() -> None:
    """Our own are none; jumps are followed back, and in circles only once."""
    found = [(r.place, r.hook, r.priority, r.mesh) for r in redirections_of(read_nft(NFT), [])]
    assert found == [
        ("ip nat PREROUTING", "prerouting", -100, ""),
        ("ip nat ISTIO_REDIRECT", "output", -100, "Istio"),
        ("inet other early", "prerouting", -155, ""),
        ("inet other loop", "", 0, ""),
    ]


@pytest.mark.parametrize(
    "rule",
    [
        "icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect } accept",
        "icmpv6 type nd-redirect accept",
        "icmp type redirect accept",
        "icmp type redirect",
        "icmp type { echo-request, redirect } drop",
        "icmp type != redirect",
        "jump redirect",
        "goto redirect",
        'tcp dport 80 log prefix "redirect to :1" accept',
        'tcp dport 80 accept comment "tproxy to :1"',
        'iifname "redirect"',
    ],
)
def test_what_only_has_the_name_redirects_nothing(rule: str) -> None:
    """Such as firewalld's ICMPv6 types, chains, interfaces, and what somebody remarks."""
    assert list(redirections_of(read_nft(f"table inet firewalld {{\n\tchain a {{\n\t\t{rule}\n\t}}\n}}\n"), [])) == []


@pytest.mark.parametrize(
    "rule",
    [
        "redirect",
        "meta l4proto tcp redirect to :15001",
        "tcp dport 80 redirect to :tcp dport map { 80 : 8080 }",
        "ip protocol tcp redirect random,persistent",
        "tcp dport 80 redirect fully-random",
        'tcp dport 80 redirect comment "icmp type redirect"',
        "meta l4proto tcp tproxy ip to 127.0.0.1:15001 meta mark set 0x00000001 accept",
        "meta l4proto tcp tproxy ip6 to [::1]:15001",
        'meta l4proto tcp counter xt target "TPROXY"',
    ],
)
def test_each_form_of_the_statement_redirects(rule: str) -> None:
    """As nft prints it."""
    found = redirections_of(read_nft(f"table ip nat {{\n\tchain a {{\n\t\t{rule}\n\t}}\n}}\n"), [])
    assert [redirection.rule for redirection in found] == [rule]


def test_redirections_of_iptables_legacy() -> None:
    """By table and chain; those of our own chains are ours."""
    found = [(r.place, r.hook, r.priority) for r in redirections_of([], [LEGACY])]
    assert found == [("iptables mangle PREROUTING", "prerouting", -150), ("iptables nat OUTPUT", "output", -100)]


def test_managers_leave_marks() -> None:
    """Chains and tables that are called as theirs."""
    assert manager_marks(read_nft(NFT), [LEGACY]) == {"docker", "ufw"}
    assert manager_marks(read_nft("table inet firewalld {\n\tchain a {\n\t}\n}\n"), []) == {"firewalld"}
    assert manager_marks([], []) == set()


def test_priorities() -> None:
    """By name, by number, and both."""
    assert [parse_priority(text) for text in ("dstnat", "-101", "mangle - 5", "srcnat + 10", "filter", "?")] == [-100, -101, -155, 110, 0, 0]


def test_no_listing_is_no_rule() -> None:
    """Nor is one that is cut off."""
    assert read_nft("") == []
    assert [chain.name for chain in read_nft(NFT[: NFT.index("redirect to :8080")])] == ["out", "PREROUTING"]
