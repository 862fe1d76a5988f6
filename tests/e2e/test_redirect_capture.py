"""What is captured and what is not, by real packets: original destinations on both sides, both families."""

import socket
from collections.abc import Iterator

import pytest

from redirect.settings import Backend
from tests.e2e.netns import (
    DEADLINE_S,
    OTHER,
    SHOP,
    SHOP_UID,
    SSH,
    WEB,
    WORKER_UID,
    Agent,
    Host,
    Workload,
    apply,
    ask,
    capture,
    start_agent,
    two_hosts,
)


@pytest.fixture(scope="module")
def mesh(backend: Backend) -> Iterator[tuple[Host, Host, Agent]]:
    """A host with rules and agent, its peer with applications, and one application of its own."""
    with two_hosts(backend) as (host, peer):
        for each in (host, peer):
            for address in (each.ip4, each.ip6):
                for port in (WEB, OTHER, SSH):
                    each.listen("app", address, port)
        agent = start_agent(host)
        apply(host)
        capture(host, agent, peer)
        host.run(agent.elements.set_capture, [peer.ip4, peer.ip6], [WEB, SSH])
        yield host, peer, agent


@pytest.fixture(autouse=True)
def beating(mesh: tuple[Host, Host, Agent]) -> None:
    """The agent has just beaten."""
    host, _, agent = mesh
    host.run(agent.elements.beat)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("port", [WEB, OTHER])
def test_a_call_to_a_mesh_host_reaches_the_agent_with_its_destination(
    mesh: tuple[Host, Host, Agent], version: int, port: int
) -> None:
    """Every port of a mesh host, registered or not: the agent decides what to do with it."""
    host, peer, agent = mesh
    address = peer.ip4 if version == 4 else peer.ip6
    assert ask(host.connect(address, port)) == "agent:hello"
    assert agent.learned(version).destination == (address, port)


def test_an_ipv4_call_from_an_ipv6_socket_is_an_ipv4_call(mesh: tuple[Host, Host, Agent]) -> None:
    """Dual-stack applications are captured like others."""
    host, peer, agent = mesh
    assert ask(host.connect(f"::ffff:{peer.ip4}", WEB, family=socket.AF_INET6)) == "agent:hello"
    assert agent.learned(4).destination == (peer.ip4, WEB)


@pytest.mark.parametrize("version", [4, 6])
def test_a_call_from_outside_to_a_registered_port_reaches_the_agent(
    mesh: tuple[Host, Host, Agent], version: int
) -> None:
    """The socket's own name is the destination, its peer the real client."""
    host, peer, agent = mesh
    address, caller = (host.ip4, peer.ip4) if version == 4 else (host.ip6, peer.ip6)
    connection = peer.connect(address, WEB)
    assert ask(connection) == "agent:hello"
    accepted = agent.inbound[version].accepted.get(timeout=DEADLINE_S)
    assert accepted.destination == (address, WEB)
    assert accepted.peer == (caller, connection.getsockname()[1])


def test_a_call_from_outside_to_another_port_reaches_the_application(mesh: tuple[Host, Host, Agent]) -> None:
    """Only what is registered is captured on the way in."""
    host, peer, _ = mesh
    assert ask(peer.connect(host.ip4, OTHER)) == "app:hello"
    assert ask(peer.connect(host.ip6, OTHER)) == "app:hello"


@pytest.mark.parametrize(("own", "answer"), [("169.254.7.7", "agent:hello"), ("fe80::77%eth0", "refused")])
def test_a_service_is_not_reached_around_the_agent_by_a_link_local_address(mesh: tuple[Host, Host, Agent], own: str, answer: str) -> None:
    """What is bound to a device cannot be redirected, and is refused. Those of others are nobody's business: clouds have services there."""
    host, peer, _ = mesh
    for each, address in ((host, own), (peer, own.replace("77", "78").replace("7.7", "7.8"))):
        bare = address.partition("%")[0]
        prefix, nodad = ("64", ["nodad"]) if ":" in bare else ("16", [])
        each.shell("ip", "addr", "add", f"{bare}/{prefix}", "dev", "eth0", *nodad)
        each.listen("app", address, WEB)
        each.listen("app", address, OTHER)
    assert [Workload(host, uid=SHOP_UID).ask(own, port) for port in (WEB, OTHER)] == [answer, "app:hello"]
    assert ask(host.connect(own.replace("77", "78").replace("7.7", "7.8"), WEB)) == "app:hello"


def test_a_neighbour_with_a_link_local_address_as_our_own_is_reached(mesh: tuple[Host, Host, Agent]) -> None:
    """fe80::1 is many a gateway's, and many a bridge's: which one is meant, the interface says."""
    host, peer, _ = mesh
    host.shell("ip", "link", "add", "bridge0", "type", "veth", "peer", "name", "port0")
    for device in ("bridge0", "port0"):
        host.shell("ip", "link", "set", device, "up")
    for each, address, device in ((host, "fe80::1", "bridge0"), (host, "fe80::79", "eth0"), (peer, "fe80::1", "eth0")):
        each.shell("ip", "addr", "add", f"{address}/64", "dev", device, "nodad")
    peer.listen("neighbour", "fe80::1%eth0", WEB)
    host.listen("app", "fe80::1%bridge0", WEB)
    assert [Workload(host, uid=SHOP_UID).ask(f"fe80::1%{device}", WEB) for device in ("eth0", "bridge0")] == ["neighbour:hello", "refused"]


def test_ssh_is_never_captured(mesh: tuple[Host, Host, Agent]) -> None:
    """In neither direction, not even if somebody registers a service on port 22."""
    host, peer, _ = mesh
    assert ask(host.connect(peer.ip4, SSH)) == "app:hello"
    assert ask(peer.connect(host.ip4, SSH)) == "app:hello"
    assert ask(peer.connect(host.ip6, SSH)) == "app:hello"
    assert ask(host.connect(host.ip4, SSH)) == "app:hello"


@pytest.mark.parametrize("version", [4, 6])
def test_a_local_caller_of_a_local_service_meets_the_agent(mesh: tuple[Host, Host, Agent], version: int) -> None:
    """Policy holds between services of one host, too."""
    host, _, agent = mesh
    address = host.ip4 if version == 4 else host.ip6
    assert ask(host.connect(address, WEB)) == "agent:hello"
    assert agent.learned(version).destination == (address, WEB)


def test_a_local_caller_of_an_unregistered_port_does_not(mesh: tuple[Host, Host, Agent]) -> None:
    """The agent has nothing to say there."""
    host, _, _ = mesh
    assert ask(host.connect(host.ip4, OTHER)) == "app:hello"


def test_loopback_is_left_alone(mesh: tuple[Host, Host, Agent]) -> None:
    """127.0.0.1 and ::1 are no addresses of the mesh, on registered ports neither."""
    host, _, _ = mesh
    host.listen("loopback", "127.0.0.1", WEB)
    host.listen("loopback", "::1", WEB)
    assert ask(host.connect("127.0.0.1", WEB)) == "loopback:hello"
    assert ask(host.connect("::1", WEB)) == "loopback:hello"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.3.4.5", "::1"])
def test_loopback_is_captured_at_the_ports_that_ask_for_it(mesh: tuple[Host, Host, Agent], address: str) -> None:
    """At these, and for these callers: the agent gets through to the application."""
    host, peer, agent = mesh
    version = 6 if ":" in address else 4
    host.listen("loopback", address, SHOP)
    host.run(agent.elements.set_capture, [peer.ip4, peer.ip6], [WEB, SSH, SHOP], [SHOP])
    assert ask(host.connect(address, SHOP)) == "agent:hello"
    assert agent.learned(version).destination == (address, SHOP)
    assert Workload(host, "nodeagent.service", WORKER_UID).ask(address, SHOP) == "loopback:hello"
    host.run(agent.elements.set_capture, [peer.ip4, peer.ip6], [WEB, SSH, SHOP])
    assert ask(host.connect(address, SHOP)) == "loopback:hello"


def test_settings_widen_and_narrow_what_is_captured(backend: Backend) -> None:
    """mesh_cidrs adds destinations, excluded ports, networks and addresses are let go, the host's own ports stay its own."""
    with two_hosts(backend) as (host, peer):
        for port in (WEB, OTHER, 7000):
            peer.listen("app", peer.ip4, port)
            peer.listen("app", peer.ip6, port)
        host.listen("app", host.ip4, OTHER)
        agent = start_agent(host)
        options = {
            "mesh_cidrs": ("10.78.0.0/24", "fd78::/64"),
            "exclude_ports": (OTHER,),
            "exclude_addresses": ((peer.ip4, 7000),),
        }
        apply(host, **options)
        host.run(agent.elements.beat)
        assert ask(host.connect(peer.ip4, WEB)) == "agent:hello"
        assert ask(host.connect(peer.ip6, WEB)) == "agent:hello"
        assert ask(host.connect(peer.ip4, OTHER)) == "app:hello"
        assert ask(host.connect(peer.ip4, 7000)) == "app:hello"
        assert ask(host.connect(peer.ip6, 7000)) == "agent:hello"
        assert ask(host.connect(host.ip4, OTHER)) == "app:hello"
        apply(host, **options, exclude_cidrs=("10.78.0.2/32",))
        host.run(agent.elements.beat)
        assert ask(host.connect(peer.ip4, WEB)) == "app:hello"
        assert ask(host.connect(peer.ip6, WEB)) == "agent:hello"


def test_tunnels_are_accepted_from_hosts_of_the_mesh_only(backend: Backend) -> None:
    """A handshake costs a millisecond of CPU: strangers are refused before it."""
    with two_hosts(backend) as (host, peer):
        host.listen("tunnel", host.ip4, 15008)
        host.listen("tunnel", host.ip6, 15008)
        agent = start_agent(host)
        apply(host)
        host.run(agent.elements.beat)
        for address in (host.ip4, host.ip6):
            with pytest.raises(ConnectionRefusedError):
                peer.connect(address, 15008)
        capture(host, agent, peer)
        assert ask(peer.connect(host.ip4, 15008)) == "tunnel:hello"
        assert ask(peer.connect(host.ip6, 15008)) == "tunnel:hello"
        assert ask(host.connect(host.ip4, 15008)) == "tunnel:hello"


def test_only_agents_and_root_call_the_tunnel_port_of_another_host(backend: Backend) -> None:
    """An application is refused, whether somebody beats or not. Where no mesh is, the port is as any other."""
    with two_hosts(backend) as (host, peer):
        for address in (peer.ip4, peer.ip6):
            peer.listen("tunnel", address, 15008)
        agent = start_agent(host)
        apply(host)
        shop, worker, root = (Workload(host, uid=uid) for uid in (SHOP_UID, WORKER_UID, 0))
        assert shop.ask(peer.ip4, 15008) == "tunnel:hello"
        capture(host, agent, peer)
        for address in (peer.ip4, peer.ip6):
            host.run(agent.elements.beat)
            assert shop.ask(address, 15008) == "refused"
            assert [each.ask(address, 15008) for each in (worker, root)] == ["tunnel:hello"] * 2
        host.run(agent.elements.stop_beat)
        assert shop.ask(peer.ip4, 15008) == "refused"
        assert worker.ask(peer.ip4, 15008) == "tunnel:hello"
