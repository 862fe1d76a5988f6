"""Open connections stay open: through install, change, removal and repair, whoever speaks."""

import socket
from collections.abc import Iterator

import pytest

from redirect import kernel
from redirect.settings import Backend
from tests.e2e.netns import (
    AGENT_UID,
    OTHER,
    SHOP_UID,
    WEB,
    Host,
    Workload,
    apply,
    ask,
    capture,
    record_path,
    remove,
    settings_for,
    start_agent,
    two_hosts,
)
from tests.e2e.support.unit import reset
from tests.support.eventually import eventually

REPLACED = {
    "nft": ("table inet nodeagent: rules replaced",),
    "iptables": ("iptables of IPv4: rules replaced", "iptables of IPv6: rules replaced"),
}


@pytest.fixture
def hosts(backend: Backend) -> Iterator[tuple[Host, Host]]:
    """Two fresh hosts: nothing on them has switched conntrack on."""
    with two_hosts(backend) as pair:
        yield pair


class Pair:
    """Both ends of a connection that the tests hold, so that either can speak first."""

    def __init__(self, client: Host, server: Host, address: str, port: int) -> None:
        listener = server.run(socket.create_server, (address, port), family=_family(address))
        self.client = client.connect(address, port)
        self.server, _ = listener.accept()
        self.server.settimeout(20)
        listener.close()
        client.stack.callback(self.server.close)

    def check(self, *, server_first: bool) -> None:
        """Bytes pass in both directions."""
        first, second = (self.server, self.client) if server_first else (self.client, self.server)
        for sender, receiver in ((first, second), (second, first)):
            sender.sendall(b"ping")
            assert receiver.recv(4, socket.MSG_WAITALL) == b"ping"


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def test_connections_from_before_survive_install_change_and_removal(hosts: tuple[Host, Host]) -> None:
    """In both directions, both families, on registered ports, whichever end speaks first after each step."""
    host, peer = hosts
    addresses = [(host, peer, peer.ip4), (host, peer, peer.ip6), (peer, host, host.ip4), (peer, host, host.ip6)]
    pairs = [Pair(client, server, address, port) for client, server, address in addresses for port in (WEB, OTHER)]
    agent = start_agent(host)

    def check() -> None:
        for number, pair in enumerate(pairs):
            pair.check(server_first=bool(number % 2))
        for number, pair in enumerate(pairs):
            pair.check(server_first=not number % 2)

    def install() -> None:
        apply(host)
        host.run(agent.elements.restore)
        capture(host, agent, peer)

    def change() -> None:
        apply(host, mesh_cidrs=("10.78.0.0/24", "fd78::/64"))
        host.run(agent.elements.beat)  # iptables takes its time
        assert ask(host.connect(peer.ip4, WEB)) == "agent:hello"

    check()
    for step in (install, change, lambda: host.run(agent.elements.stop_beat), lambda: remove(host)):
        step()
        check()
    install()
    remove(host, now=True)
    check()


@pytest.mark.parametrize("server_first", [False, True])
@pytest.mark.parametrize("version", [4, 6])
def test_the_first_packet_after_install_may_come_from_either_end(
    hosts: tuple[Host, Host], version: int, *, server_first: bool
) -> None:
    """On a host without conntrack, an answer looks like a new connection to it: the SYN condition tells them apart."""
    host, peer = hosts
    inward = Pair(peer, host, host.ip4 if version == 4 else host.ip6, OTHER)
    outward = Pair(host, peer, peer.ip4 if version == 4 else peer.ip6, WEB)
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    inward.check(server_first=server_first)
    outward.check(server_first=server_first)


@pytest.mark.parametrize("version", [4, 6])
def test_captured_connections_survive_change_removal_and_repair(hosts: tuple[Host, Host], version: int) -> None:
    """Redirected and transparent ones, speaking in the gap, and again after the rules are back."""
    host, peer = hosts
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    outward = host.connect(peer.ip4 if version == 4 else peer.ip6, WEB)
    inward = peer.connect(host.ip4 if version == 4 else host.ip6, WEB)

    def check() -> None:
        assert ask(outward) == "agent:hello"
        assert ask(inward) == "agent:hello"

    check()
    apply(host, exclude_ports=(7000,))
    check()
    if host.backend == "nft":
        host.shell("nft", "delete", "table", "inet", "nodeagent")
    else:
        for command in ("iptables-legacy", "ip6tables-legacy"):
            host.shell(command, "-t", "nat", "-F")
            host.shell(command, "-t", "mangle", "-F")
    check()
    assert apply(host).changes
    check()
    report = remove(host)
    assert any("are open" in reason for reason in report.left)
    check()


@pytest.mark.parametrize("version", [4, 6])
def test_ports_of_a_redirected_connection_may_serve_again_while_nothing_is_installed(hosts: tuple[Host, Host], version: int) -> None:
    """Conntrack remembers it for minutes, and sees nothing meanwhile. What is open is not forgotten with it."""
    host, peer = hosts
    address = peer.ip4 if version == 4 else peer.ip6
    peer.listen("app", address, WEB)
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    held, ended = host.connect(address, WEB), connect_from(host, 40_000, address)
    assert [ask(held), ask(ended)] == ["agent:hello"] * 2
    reset(ended)
    remove(host, now=True)
    direct = connect_from(host, 40_000, address)
    assert ask(direct) == "app:hello"
    assert "connection tracking: 1 redirected connections of before, which have ended, forgotten" in apply(host).changes
    assert [ask(direct), ask(held)] == ["app:hello", "agent:hello"]


@pytest.mark.parametrize("version", [4, 6])
def test_what_waits_to_close_is_not_sent_in_clear_by_new_rules(hosts: tuple[Host, Host], version: int) -> None:
    """A pool's connection, say, whose agent has closed long ago: what is written then is reset, as before."""
    host, peer = hosts
    address = peer.ip4 if version == 4 else peer.ip6
    peer.listen("app", address, WEB)
    peer.shell("nft", f"add table inet wire; add chain inet wire in {{ type filter hook input priority 0; }}; add rule inet wire in tcp dport {WEB} counter")
    host.shell("sysctl", "-qw", "net.ipv4.tcp_fin_timeout=1")
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    pooled = host.connect(address, WEB)
    assert ask(pooled) == "agent:hello"
    agent.outbound[version].hang_up()
    assert pooled.recv(1) == b""
    eventually(lambda: not host.shell("ss", "-tanH", "state", "connected", "sport", "=", "15001"), 60, "the agent's end is gone")
    remove(host, now=True)
    assert not [change for change in apply(host).changes if "forgotten" in change]
    pooled.sendall(b"late")
    eventually(lambda: pooled.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 20, "it is reset")
    assert "counter packets 0 bytes 0" in peer.shell("nft", "list", "table", "inet", "wire")


@pytest.mark.parametrize("version", [4, 6])
def test_whom_conntrack_takes_for_another_connection_does_not_go_around_the_agent(hosts: tuple[Host, Host], version: int) -> None:
    """It remembers one of the agent's, which is not redirected, for ten seconds after a reset: who has its port is refused."""
    host, peer = hosts
    address, own = (peer.ip4, host.ip4) if version == 4 else (peer.ip6, host.ip6)
    listener = peer.run(socket.create_server, (address, WEB), family=_family(address))
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    with listener:
        asked = host.threads.submit(Workload(host, "nodeagent.service", uid=AGENT_UID, source=(own, 40_000)).ask, address, WEB)
        reset(listener.accept()[0])
        assert asked.result() == "unreachable"
    peer.listen("app", address, WEB)
    callers = [Workload(host, uid=SHOP_UID, source=(own, port)) for port in (40_000, 40_001)]
    assert [caller.ask(address, WEB) for caller in callers] == ["refused", "agent:hello"]


def test_what_somebody_elses_nat_sends_into_the_mesh_goes_on(hosts: tuple[Host, Host]) -> None:
    """It was dialled elsewhere, as a virtual address of a load balancer: neither captured nor refused."""
    host, peer = hosts
    peer.listen("app", peer.ip4, WEB)
    agent = start_agent(host)
    host.shell("nft", f"add table ip other; add chain ip other out {{ type nat hook output priority -100; }}; add rule ip other out ip daddr 10.78.0.77 dnat to {peer.ip4}")
    apply(host)
    capture(host, agent, peer)
    caller = Workload(host, uid=SHOP_UID)
    assert [caller.ask("10.78.0.77", WEB), caller.ask(peer.ip4, WEB)] == ["app:hello", "agent:hello"]


def test_whom_conntrack_does_not_follow_does_not_go_around_the_agent(hosts: tuple[Host, Host]) -> None:
    """Somebody has said so, for speed: nat is not asked then."""
    host, peer = hosts
    peer.listen("app", peer.ip4, WEB)
    agent = start_agent(host)
    host.shell("nft", "add table ip other; add chain ip other raw { type filter hook output priority -300; }; add rule ip other raw notrack")
    apply(host)
    capture(host, agent, peer)
    assert Workload(host, uid=SHOP_UID).ask(peer.ip4, WEB) == "refused"


def connect_from(host: Host, port: int, address: str) -> socket.socket:
    """As `Host.connect` to WEB, from that port."""
    sock = host.run(socket.create_connection, (address, WEB), 20.0, ("", port))
    host.stack.callback(sock.close)
    return sock


def test_a_change_of_rules_opens_no_gap(hosts: tuple[Host, Host]) -> None:
    """While rules are swapped, every new connection is captured: none slips by, none is refused."""
    host, peer = hosts
    peer.listen("app", peer.ip4, WEB)
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    for number in range(10 if host.backend == "nft" else 3):
        changed = host.threads.submit(_change, host, number)
        answers = {_answer(host, peer)}
        while not changed.done():
            host.run(agent.elements.beat)
            answers.add(_answer(host, peer))
        assert changed.result() == REPLACED[host.backend]
        assert answers == {"agent:hello"}


def _answer(host: Host, peer: Host) -> str:
    with host.connect(peer.ip4, WEB) as connection:
        return ask(connection)


def _change(host: Host, number: int) -> tuple[str, ...]:
    return kernel.apply(settings_for(host, exclude_ports=(7000 + number,)), record_path=record_path(host)).changes
