"""What both backends promise of their rules besides capturing: they change whole, leave others' alone, and go without a trace.

The packets that each captures are in test_redirect_capture, _deadman, _survival and _identity, which run with both, too.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from redirect import ipset, kernel
from redirect.backend import BACKENDS, capturing_backends, installed_backends
from redirect.cgroup import read_mount
from redirect.errors import RedirectError
from redirect.settings import Backend
from tests.e2e.netns import (
    DEADLINE_S,
    OTHER,
    WEB,
    Host,
    apply,
    ask,
    capture,
    legacy_rules,
    record_path,
    remove,
    settings_for,
    start_agent,
    state_of,
    two_hosts,
)
from tests.support.eventually import eventually

FOREIGN = {
    "nft": ("nft", "table inet others { chain c { type filter hook input priority 0; ct state new counter accept; }; }"),
    "iptables": ("sh", "-c", "for t in mangle filter nat; do iptables-legacy -t $t -A OUTPUT -p udp -m comment --comment x -j ACCEPT; done"),
}  # fmt: skip
TAMPER = [
    ("nft", "nft delete table inet nodeagent", "table inet nodeagent is missing"),
    ("nft", "nft flush ruleset", "table inet nodeagent_keeper is missing"),
    ("nft", "nft flush chain inet nodeagent closed", "chain closed: missing: jump exempt"),
    ("nft", "nft delete chain inet nodeagent_keeper translate", "chain translate is missing"),
    ("nft", "nft insert rule inet nodeagent never accept", "chain never: not ours: accept"),
    ("nft", "nft add chain inet nodeagent mine", "chain mine is not ours"),
    ("nft", "nft add table inet nodeagent '{ flags dormant; }'", "not ours: flags dormant"),
    ("iptables", "iptables-legacy -t nat -F", "IPv4 table nat, chain OUTPUT is missing"),
    ("iptables", "ip6tables-legacy -t filter -F; ip6tables-legacy -t filter -X", "IPv6 table filter, chain nodeagent_closed is missing"),
    ("iptables", "iptables-legacy -t nat -I OUTPUT -j ACCEPT", "at place 1 -j nodeagent_out"),
    ("iptables", "ip6tables-legacy -t mangle -I nodeagent_pre -j RETURN", "chain nodeagent_pre: not ours: -A nodeagent_pre -j RETURN"),
    ("iptables", "iptables-legacy -t nat -D nodeagent_out 1", "chain nodeagent_out: missing: -A nodeagent_out -p tcp -m tcp ! --tcp-flags"),
    ("iptables", "iptables-legacy -t nat -N nodeagent_mine", "chain nodeagent_mine is not ours"),
    *(
        (backend, tamper, sentence)
        for backend in BACKENDS
        for tamper, sentence in (
            ("ip rule del pref 1330", "policy rule (IPv4) 1330: fwmark 0x5b lookup 133: missing"),
            ("ip -6 route flush table 133", "route (IPv6) local ::/0 dev lo table 133: missing"),
            ("sysctl -w net.ipv4.tcp_fwmark_accept=0", "net.ipv4.tcp_fwmark_accept is 0, not 1"),
            ("sysctl -w net.ipv4.tcp_tw_reuse=2", "net.ipv4.tcp_tw_reuse is 2, not 1"),
            ("sysctl -w net.ipv6.fwmark_reflect=0", "net.ipv6.fwmark_reflect is 0, not 1"),
        )
    ),
]


@pytest.fixture
def hosts(backend: Backend) -> Iterator[tuple[Host, Host]]:
    """Two fresh hosts."""
    with two_hosts(backend) as pair:
        yield pair


@pytest.fixture
def host(hosts: tuple[Host, Host]) -> Host:
    """A fresh host."""
    return hosts[0]


def verify(host: Host) -> tuple[str, ...]:
    return host.run(kernel.verify, settings_for(host))


@pytest.mark.parametrize(("accept", "reuse"), [("0", "2"), ("1", "1"), ("0", "0")])
def test_after_remove_now_all_is_as_before(hosts: tuple[Host, Host], accept: str, reuse: str) -> None:
    """Rules, policy rules, routes and sysctls, those of others included; also with connections open.

    What others have there stays in its order meanwhile.
    """
    host, peer = hosts
    host.shell("sysctl", "-w", f"net.ipv4.tcp_fwmark_accept={accept}", f"net.ipv4.tcp_tw_reuse={reuse}")
    host.shell("ip", "rule", "add", "fwmark", "0x77", "pref", "1331", "lookup", "200")
    host.shell("ip", "route", "add", "203.0.113.0/24", "dev", "eth0", "table", "133")
    host.shell(*FOREIGN[host.backend])
    before = state_of(host)
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    assert ask(host.connect(peer.ip4, WEB)) == "agent:hello"
    apply(host, exclude_ports=(7000,))
    assert host.run(installed_backends) == (host.backend,)
    assert foreign_rules(state_of(host)) == foreign_rules(before) != []
    remove(host, now=True)
    assert state_of(host) == before
    assert not record_path(host).exists()
    assert remove(host, now=True) == kernel.Report()


def foreign_rules(state: dict[str, str]) -> list[str]:
    lines = (state["iptables"] or state["rules"]).splitlines()
    return [line for line in lines if "--comment x" in line or "ct state new" in line]


def test_a_second_apply_changes_nothing(host: Host) -> None:
    """Not even the handles of the rules; nor does a look at what it would change."""
    assert apply(host).changes
    first = (state_of(host), host.shell("nft", "-a", "list", "ruleset"))
    assert apply(host) == kernel.Report()
    assert host.run(kernel.preview, settings_for(host)) == ()
    assert (state_of(host), host.shell("nft", "-a", "list", "ruleset")) == first
    assert verify(host) == ()


def test_a_look_makes_nothing(host: Host) -> None:
    """Not even tables of iptables, which nobody can take away again. The plan says what it cannot promise."""
    lines = host.run(kernel.preview, settings_for(host))
    assert any("15001" in line for line in lines)
    assert host.shell("cat", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names") == ""
    assert ("Not atomic" in lines[0]) is (host.backend == "iptables")


@pytest.mark.parametrize(("of", "tamper", "sentence"), TAMPER)
def test_verify_names_the_drift_and_apply_repairs_it(of: Backend, tamper: str, sentence: str) -> None:
    """Whatever else changes our rules, the whole is compared and put back."""
    with two_hosts(of) as (host, _):
        apply(host)
        assert verify(host) == ()
        host.shell("sh", "-c", tamper)
        assert any(sentence in said for said in verify(host)), verify(host)
        assert apply(host).changes
        assert verify(host) == ()
        assert "dormant" not in host.shell("nft", "list", "ruleset")


def test_only_one_backend_has_rules(host: Host) -> None:
    """What one lets go the other would capture: the second is refused, with the cure, and removal finds either."""
    apply(host)
    other: Backend = "iptables" if host.backend == "nft" else "nft"
    before, host.backend = host.backend, other
    for look in (kernel.preview, kernel.apply):
        with pytest.raises(RedirectError, match=f"backend {before} are installed.*remove --now"):
            host.run(look, settings_for(host), **({"record_path": record_path(host)} if look is kernel.apply else {}))
    remove(host, now=True)
    assert apply(host).changes
    assert host.run(installed_backends) == (other,)


def test_what_the_kernel_refuses_leaves_all_as_it_was() -> None:
    """iptables is written table by table: what is there already is taken away again when a later one is refused."""
    with two_hosts("iptables") as (host, peer):
        peer.listen("app", peer.ip4, WEB)
        dead = Path(read_mount(), host.path_of("dead.service"))
        dead.mkdir()
        rule = ("-m", "cgroup", "--path", host.path_of("dead.service"), "-j", "ACCEPT")
        host.shell("ip6tables-legacy", "-t", "nat", "-A", "OUTPUT", *rule)
        dead.rmdir()
        before = state_of(host)
        with pytest.raises(RedirectError, match="the kernel refuses table nat of IPv6"):
            apply(host)
        assert state_of(host) == before
        assert not record_path(host).exists()
        assert ask(host.connect(peer.ip4, WEB)) == "app:hello"


def test_remove_keeps_what_open_connections_need_until_they_are_gone(hosts: tuple[Host, Host]) -> None:
    """First the capturing rules go, later, with the last connection, the rest; an apply in between is no problem."""
    host, peer = hosts
    peer.listen("app", peer.ip4, OTHER)
    before = state_of(host)
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    with host.connect(peer.ip4, OTHER) as connection:
        assert ask(connection) == "agent:hello"
        for _ in range(2):
            assert "are open" in remove(host).left[0]
            assert (host.run(installed_backends), host.run(capturing_backends)) == ((host.backend,), ())
            assert "1330" in state_of(host)["policy"]
            assert ask(host.connect(peer.ip4, OTHER)) == "app:hello"
            assert ask(connection) == "agent:hello"
            apply(host)
            assert host.run(capturing_backends) == (host.backend,)
        remove(host)
        assert ask(connection) == "agent:hello"
    eventually(lambda: not remove(host).left, DEADLINE_S, "nothing is left")
    assert state_of(host) == before


def test_what_others_did_to_the_sets_is_seen_and_put_right(hosts: tuple[Host, Host]) -> None:
    """An address that is missing from a set is traffic in clear."""
    host, peer = hosts
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    assert host.run(agent.elements.verify_capture) == ()
    if host.backend == "nft":
        host.shell("nft", "flush set inet nodeagent mesh4; add element inet nodeagent local_ports { 7000 }")
    else:
        host.run(ipset.clear, "nodeagent_mesh4")
        host.run(ipset.add, ipset.IpSet("nodeagent_local_ports", "bitmap:port", 4), ["7000"])
    seen = host.run(agent.elements.verify_capture)
    assert seen == (
        f"set mesh4: elements missing: 1, such as {peer.ip4}",
        "set local_ports: elements that are not ours: 1, such as 7000",
    )
    host.run(agent.elements.restore)
    host.run(agent.elements.beat)
    assert host.run(agent.elements.verify_capture) == ()
    assert ask(host.connect(peer.ip4, WEB)) == "agent:hello"


def test_thousands_of_addresses_come_and_go(hosts: tuple[Host, Host]) -> None:
    """By what changes."""
    host, peer = hosts
    agent = start_agent(host)
    apply(host)
    addresses = [f"10.{a}.{b}.{c}" for a in range(1, 3) for b in range(40) for c in range(1, 251)]
    host.run(agent.elements.set_capture, addresses, [WEB])
    host.run(agent.elements.set_capture, [*addresses[1:], peer.ip4, peer.ip6], [WEB, OTHER], [OTHER])
    assert host.run(agent.elements.verify_capture) == ()
    host.run(agent.elements.beat)
    assert ask(host.connect(peer.ip6, WEB)) == "agent:hello"


def test_a_dead_agents_cgroup_keeps_nobody_from_the_other_tables() -> None:
    """Of a table with the rule of a cgroup that has ended the kernel takes no change: that is mangle, and mangle only."""
    with two_hosts("iptables") as (host, peer):
        agent = start_agent(host)
        apply(host)
        capture(host, agent, peer)
        Path(read_mount(), host.path_of("nodeagent.service")).rmdir()
        for table in ("filter", "nat"):
            host.shell("iptables-legacy", "-t", table, "-A", "OUTPUT", "-p", "udp", "-j", "ACCEPT")
        with pytest.raises(AssertionError, match="Invalid argument"):
            host.shell("iptables-legacy", "-t", "mangle", "-A", "OUTPUT", "-p", "udp", "-j", "ACCEPT")
        assert host.run(agent.elements.set_agents, [host.path_of("nodeagent.service")]) == (host.path_of("nodeagent.service"),)
        host.shell("iptables-legacy", "-t", "mangle", "-A", "OUTPUT", "-p", "udp", "-j", "ACCEPT")
        with suppress(FileExistsError):
            Path(read_mount(), host.path_of("nodeagent.service")).mkdir()
        assert legacy_rules(host).count("-A OUTPUT -p udp -j ACCEPT") == 3
