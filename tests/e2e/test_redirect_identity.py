"""Who is calling: the agent's exemption, the stamp on the SYN, and applications that forge our marks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from redirect.cgroup import read_mount
from redirect.settings import Backend, ReturnPath
from tests.e2e.netns import (
    AGENT_UID,
    DEADLINE_S,
    OTHER,
    SHOP_UID,
    WEB,
    WORKER_UID,
    Agent,
    Host,
    Workload,
    apply,
    capture,
    start_agent,
    two_hosts,
)
from tests.support.eventually import eventually

AGENT_UNIT, WEB_UNIT, SHOP_UNIT = "nodeagent.service", "system.slice/web.service", "system.slice/shop.service"
WEB_MARK, SHOP_MARK = 0x5A000007, 0x5A000008
UPSTREAM_MARK = ReturnPath().mark


@pytest.fixture(scope="module")
def mesh(backend: Backend) -> Iterator[tuple[Host, Host, Agent]]:
    """A host whose units `web` and `shop` are in the map, and a peer that answers."""
    with two_hosts(backend) as (host, peer):
        for address in (peer.ip4, peer.ip6):
            peer.listen("app", address, WEB)
        agent = start_agent(host)
        apply(host)
        capture(host, agent, peer)
        host.run(agent.elements.set_units, {host.path_of(WEB_UNIT): WEB_MARK, host.path_of(SHOP_UNIT): SHOP_MARK})
        yield host, peer, agent


@pytest.fixture(autouse=True)
def beating(mesh: tuple[Host, Host, Agent]) -> None:
    """The agent has just beaten."""
    host, _, agent = mesh
    host.run(agent.elements.beat)


def stamp_of(host: Host, mark: int) -> int:
    """What the backend makes of a unit's mark."""
    return mark if host.backend == "nft" else 0


@pytest.mark.parametrize("uid", [0, AGENT_UID, WORKER_UID])
@pytest.mark.parametrize("version", [4, 6])
def test_the_agent_itself_is_exempt(mesh: tuple[Host, Host, Agent], uid: int, version: int) -> None:
    """All its users in its own cgroup, or it would call itself for ever; root because it opens sockets for workers."""
    host, peer, _ = mesh
    assert Workload(host, AGENT_UNIT, uid).ask(peer.ip4 if version == 4 else peer.ip6, WEB) == "app:hello"


@pytest.mark.parametrize(
    ("unit", "uid"), [("", WORKER_UID), (SHOP_UNIT, WORKER_UID), (AGENT_UNIT, SHOP_UID), ("", 0), (SHOP_UNIT, 0)]
)
def test_uid_or_cgroup_alone_exempt_nobody(mesh: tuple[Host, Host, Agent], unit: str, uid: int) -> None:
    """An application that runs as the agent's user is captured, and so is a foreign user in the agent's cgroup."""
    host, peer, _ = mesh
    assert Workload(host, unit, uid).ask(peer.ip4, WEB) == "agent:hello"
    assert Workload(host, unit, uid).ask(peer.ip6, WEB) == "agent:hello"


def test_the_exemption_follows_a_restart_of_the_agent(mesh: tuple[Host, Host, Agent]) -> None:
    """A restarted unit has a new cgroup under the old path: set_agents makes the rules see it."""
    host, peer, agent = mesh
    directory = Path(read_mount(), host.path_of(AGENT_UNIT))
    directory.rmdir()
    directory.mkdir()
    assert Workload(host, AGENT_UNIT, WORKER_UID).ask(peer.ip4, WEB) == "agent:hello"
    assert host.run(agent.elements.set_agents, [host.path_of(AGENT_UNIT)]) == ()
    assert Workload(host, AGENT_UNIT, WORKER_UID).ask(peer.ip4, WEB) == "app:hello"


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("unit", "mark"), [(WEB_UNIT, WEB_MARK), (SHOP_UNIT, SHOP_MARK), ("", 0)])
def test_the_accepted_socket_carries_the_callers_stamp(
    mesh: tuple[Host, Host, Agent], unit: str, mark: int, version: int
) -> None:
    """Each unit its own; a process in no known unit has none, and iptables stamps nobody."""
    host, peer, agent = mesh
    assert Workload(host, unit).ask(peer.ip4 if version == 4 else peer.ip6, WEB) == "agent:hello"
    assert agent.learned(version).mark == stamp_of(host, mark)


def test_the_stamp_is_the_callers_though_its_source_port_is_rewritten(mesh: tuple[Host, Host, Agent]) -> None:
    """Two callers with one address and port are redirected to one listener: the kernel renames one, not the stamp."""
    host, peer, agent = mesh
    source = (host.ip4, 41000)
    with Workload(host, WEB_UNIT, source=source).holding(peer.ip4, WEB):
        first = agent.learned(4)
        with Workload(host, SHOP_UNIT, source=source).holding(peer.ip4, OTHER):
            second = agent.learned(4)
    assert (first.destination, first.peer, first.mark) == ((peer.ip4, WEB), source, stamp_of(host, WEB_MARK))
    assert (second.destination, second.mark) == ((peer.ip4, OTHER), stamp_of(host, SHOP_MARK))
    assert second.peer != source


@pytest.mark.parametrize("mark", [UPSTREAM_MARK, WEB_MARK, SHOP_MARK, 0x1234])
@pytest.mark.parametrize(("unit", "stamp"), [(SHOP_UNIT, SHOP_MARK), ("", 0)])
@pytest.mark.parametrize("version", [4, 6])
def test_a_forged_mark_is_wiped_and_its_owner_captured(
    mesh: tuple[Host, Host, Agent], version: int, unit: str, stamp: int, mark: int
) -> None:
    """CAP_NET_RAW lets an application set any mark: neither the agent's nor another unit's buys it anything."""
    host, peer, agent = mesh
    forger = Workload(host, unit, net_raw=True, mark=mark)
    answer = forger.ask(peer.ip4 if version == 4 else peer.ip6, WEB)
    if (host.backend, version, mark) == ("iptables", 4, UPSTREAM_MARK):
        # Mangle routes it anew without the mark, and the source address that the mark has brought leads nowhere.
        assert answer == "unreachable"
        return
    assert answer == "agent:hello"
    assert agent.learned(version).mark == stamp_of(host, stamp)


@pytest.mark.parametrize("version", [4, 6])
def test_a_forged_mark_is_not_taken_for_a_stamp_behind_a_syn_cookie(
    mesh: tuple[Host, Host, Agent], version: int
) -> None:
    """The kernel forgets the SYN then, and the accepted socket has the mark of the packet that brings the cookie back."""
    host, peer, agent = mesh
    host.shell("sysctl", "-qw", "net.ipv4.tcp_syncookies=2")
    forger = Workload(host, SHOP_UNIT, net_raw=True, mark=WEB_MARK)
    assert forger.ask(peer.ip4 if version == 4 else peer.ip6, WEB) == "agent:hello"
    assert agent.learned(version).mark == 0
    host.shell("sysctl", "-qw", "net.ipv4.tcp_syncookies=1")


def test_a_forged_mark_does_not_pass_through_the_agents_own_door(mesh: tuple[Host, Host, Agent]) -> None:
    """Whoever dials the agent's port directly is not captured, but the mark is wiped there as well."""
    host, _, agent = mesh
    assert Workload(host, SHOP_UNIT, net_raw=True, mark=WEB_MARK).ask("127.0.0.1", 15001) == "agent:hello"
    assert agent.learned(4).mark == 0


@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8::7"])
def test_the_agents_mark_opens_no_way_around_policy_to_local_services(
    mesh: tuple[Host, Host, Agent], address: str
) -> None:
    """With it every address is routed to this host, where services listen: a forger's SYN is routed again without it."""
    host, _, _ = mesh
    host.listen("app", "::" if ":" in address else "0.0.0.0", WEB)
    host.shell("ip", "route", "replace", "unreachable", "default")
    host.shell("ip", "-6", "route", "replace", "unreachable", "default")
    assert Workload(host, SHOP_UNIT, net_raw=True, mark=UPSTREAM_MARK).ask(address, WEB) == "unreachable"


@pytest.mark.parametrize("version", [4, 6])
def test_the_agents_mark_brings_answers_to_a_foreign_address_back(mesh: tuple[Host, Host, Agent], version: int) -> None:
    """The return path: the application sees the caller's address, and its answers come back to this host."""
    host, peer, _ = mesh
    address, foreign = (host.ip4, peer.ip4) if version == 4 else (host.ip6, peer.ip6)
    application = host.listen("local", address, 18080)
    agent = Workload(host, AGENT_UNIT, uid=0, mark=UPSTREAM_MARK, source=(foreign, 0))
    assert agent.ask(address, 18080) == "local:hello"
    accepted = application.accepted.get(timeout=DEADLINE_S)
    assert (accepted.peer[0], accepted.mark) == (foreign, UPSTREAM_MARK)


@pytest.mark.parametrize("version", [4, 6])
def test_a_callers_port_serves_again_soon_after_it_closed(mesh: tuple[Host, Host, Agent], version: int) -> None:
    """It is bound by number: then the kernel does not make it wait for sixty seconds."""
    host, peer, _ = mesh
    address, foreign = (host.ip4, peer.ip4) if version == 4 else (host.ip6, peer.ip6)
    host.listen("local", address, 18081)
    agent = Workload(host, AGENT_UNIT, uid=0, mark=UPSTREAM_MARK, source=(foreign, 42000))
    for _ in range(3):
        eventually(lambda: agent.ask(address, 18081) == "local:hello", DEADLINE_S, "the port serves")
