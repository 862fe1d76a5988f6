"""The switch that falls when the agent stops beating: refuse, or bypass; nothing hangs and nothing open is cut."""

import socket
import time
from collections.abc import Iterator

import pytest

from nodeagent import limits
from redirect.elements import Exceptions
from redirect.settings import Backend, Fail
from tests.e2e.netns import (
    AGENT_UID,
    OTHER,
    SSH,
    WEB,
    WORKER_UID,
    Host,
    Workload,
    apply,
    ask,
    capture,
    start_agent,
    two_hosts,
)  # fmt: skip
from tests.support.eventually import eventually

AT_ONCE_S = 1.0  # a reset takes microseconds; a dropped packet would take longer than this to be sent again
ALIVE_S = 5


@pytest.fixture
def hosts(backend: Backend) -> Iterator[tuple[Host, Host]]:
    """Two hosts with applications on registered and other ports."""
    with two_hosts(backend) as (host, peer):
        for each in (host, peer):
            for address in (each.ip4, each.ip6):
                for port in (WEB, OTHER, SSH, limits.TUNNEL_PORT):
                    each.listen("app", address, port)
        yield host, peer


def refused_at_once(caller: Host, address: str, port: int = WEB) -> bool:
    """Whether the connection was reset, and without a wait; False if it was accepted."""
    begun = time.monotonic()
    try:
        caller.connect(address, port)
    except ConnectionRefusedError:
        assert time.monotonic() - begun < AT_ONCE_S
        return True
    return False


def test_without_a_beat_new_connections_are_refused_at_once(hosts: tuple[Host, Host]) -> None:
    """Out, in and local; and everything that is never captured goes on as ever."""
    host, peer = hosts
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    host.run(agent.elements.stop_beat)
    for caller, address in (
        (host, peer.ip4),
        (host, peer.ip6),
        (peer, host.ip4),
        (peer, host.ip6),
        (host, host.ip4),
        (host, host.ip6),
    ):
        assert refused_at_once(caller, address)
    assert Workload(host, "nodeagent.service", WORKER_UID).ask(peer.ip4, WEB) == "app:hello"
    assert ask(host.connect(peer.ip4, SSH)) == "app:hello"
    assert ask(peer.connect(host.ip4, SSH)) == "app:hello"
    assert ask(peer.connect(host.ip4, OTHER)) == "app:hello"
    assert ask(host.connect(host.ip4, OTHER)) == "app:hello"


def test_a_beat_brings_capture_back_and_open_connections_never_notice(hosts: tuple[Host, Host]) -> None:
    """Agent dead, agent alive, agent dead: what was open flows on through all of it."""
    host, peer = hosts
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    kept = [
        host.connect(peer.ip4, WEB),
        host.connect(peer.ip6, WEB),
        peer.connect(host.ip4, WEB),
        peer.connect(host.ip6, WEB),
    ]
    for act, is_refused in (
        (agent.elements.stop_beat, True),
        (agent.elements.beat, False),
        (agent.elements.stop_beat, True),
    ):
        host.run(act)
        assert [ask(connection) for connection in kept] == ["agent:hello"] * 4
        assert refused_at_once(host, peer.ip4) is is_refused
        assert refused_at_once(peer, host.ip6) is is_refused
    host.run(agent.elements.beat)
    assert ask(host.connect(peer.ip4, WEB)) == "agent:hello"
    assert ask(peer.connect(host.ip4, WEB)) == "agent:hello"


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_without_a_beat_no_tunnel_opens_and_open_ones_never_notice(hosts: tuple[Host, Host], fail: Fail) -> None:
    """The socket is there, and whoever hangs behind it would not answer."""
    host, peer = hosts
    agent = start_agent(host, fail=fail)
    apply(host, fail=fail)
    capture(host, agent, peer, Exceptions(fail))
    kept = [peer.connect(address, limits.TUNNEL_PORT) for address in (host.ip4, host.ip6)]
    host.run(agent.elements.stop_beat)
    assert all(refused_at_once(peer, address, limits.TUNNEL_PORT) for address in (host.ip4, host.ip6))
    assert [ask(connection) for connection in kept] == ["app:hello"] * 2
    host.run(agent.elements.beat)
    assert [ask(peer.connect(address, limits.TUNNEL_PORT)) for address in (host.ip4, host.ip6)] == ["app:hello"] * 2


def test_the_switch_falls_by_itself(hosts: tuple[Host, Host]) -> None:
    """Nobody has to be alive for it: five seconds after the last beat, and not while beats come."""
    host, peer = hosts
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    begun = time.monotonic()
    while time.monotonic() < begun + ALIVE_S + 1:
        host.run(agent.elements.beat)
        last_beat = time.monotonic()
        with host.connect(peer.ip4, WEB) as connection:
            assert ask(connection) == "agent:hello"
    eventually(lambda: refused_at_once(host, peer.ip4), 10 * ALIVE_S, "the switch has fallen")
    assert time.monotonic() - last_beat > ALIVE_S - 1


def test_a_beat_may_live_longer_and_the_next_one_shortens_it(hosts: tuple[Host, Host]) -> None:
    """As before the agent replaces itself; its successor's first beat is one like every other."""
    host, peer = hosts
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    host.run(agent.elements.beat, ALIVE_S + 4)
    last_beat = time.monotonic()
    eventually(lambda: refused_at_once(host, peer.ip4), 10 * ALIVE_S, "the switch has fallen")
    assert time.monotonic() - last_beat > ALIVE_S + 3
    host.run(agent.elements.beat, limits.REPLACED_S * 10)
    host.run(agent.elements.beat)
    last_beat = time.monotonic()
    eventually(lambda: refused_at_once(host, peer.ip6), limits.REPLACED_S * 10, "the switch has fallen")
    assert time.monotonic() - last_beat < limits.REPLACED_S * 5


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_what_may_bypass_a_dead_agent_does_and_the_rest_is_refused_at_once(hosts: tuple[Host, Host], fail: Fail) -> None:
    """In every direction and both families; a living agent gets all of them, and what went around it is counted."""
    host, peer = hosts
    agent = start_agent(host, fail=fail)
    apply(host, fail=fail)
    host.run(agent.elements.take_bypassed)
    # On an open host OTHER stays closed, on a closed one WEB may be bypassed: the same calls, said both ways.
    excepted = OTHER if fail == "open" else WEB
    exceptions = Exceptions(fail, ((peer.ip4, excepted), (peer.ip6, excepted)), (excepted,))
    capture(host, agent, peer, exceptions, (WEB, OTHER))
    calls = ((host, peer.ip4), (host, peer.ip6), (peer, host.ip4), (peer, host.ip6), (host, host.ip4), (host, host.ip6))
    for _ in range(2):
        host.run(agent.elements.beat)
        kept = [caller.connect(address, port) for caller, address in calls for port in (WEB, OTHER)]
        assert [ask(connection) for connection in kept] == ["agent:hello"] * 12
        assert host.run(agent.elements.take_bypassed) == 0
        host.run(agent.elements.stop_beat)
        assert [ask(caller.connect(address, WEB)) for caller, address in calls] == ["app:hello"] * 6
        assert all(refused_at_once(caller, address, OTHER) for caller, address in calls)
        assert [ask(connection) for connection in kept] == ["agent:hello"] * 12
        assert [host.run(agent.elements.take_bypassed) for _ in range(2)] == [6, 0]


def test_until_control_has_said_what_stays_closed_nothing_bypasses(hosts: tuple[Host, Host]) -> None:
    """Nor by exceptions from the other fail mode, as after a change of the settings: they would mean the contrary."""
    host, peer = hosts
    agent = start_agent(host, fail="open")
    apply(host, fail="open")
    for exceptions in (None, Exceptions("closed", ((peer.ip4, WEB), (peer.ip6, WEB)), (WEB,))):
        capture(host, agent, peer, exceptions)
        host.run(agent.elements.stop_beat)
        for caller, address in ((host, peer.ip4), (host, peer.ip6), (peer, host.ip4), (peer, host.ip6), (host, host.ip4)):
            assert refused_at_once(caller, address)
    capture(host, agent, peer, Exceptions("open"))
    apply(host, fail="closed")
    host.run(agent.elements.stop_beat)
    assert refused_at_once(host, peer.ip4)
    assert refused_at_once(peer, host.ip6)


def test_callers_that_stay_closed_and_those_that_nobody_knows_do_not_bypass(hosts: tuple[Host, Host]) -> None:
    """Where some do. A unit may by its mark; iptables has no marks, so there nobody may."""
    host, peer = hosts
    options = {"fail": "open", "knows_callers": True, "closed_uids": (AGENT_UID,)}
    agent = start_agent(host, **options)
    apply(host, **options)
    capture(host, agent, peer, Exceptions("open"))
    units = {host.path_of("system.slice/web.service"): 0x5A000001, host.path_of("system.slice/shop.service"): 0x5A000002}
    host.run(agent.elements.set_units, units, [0x5A000001])
    host.run(agent.elements.stop_beat)
    may = "app:hello" if host.backend == "nft" else "refused"
    for address in (peer.ip4, peer.ip6, host.ip4):
        for workload, answer in (
            (Workload(host, "system.slice/web.service"), may),
            (Workload(host, "system.slice/web.service", AGENT_UID), "refused"),
            (Workload(host, "system.slice/shop.service"), "refused"),
            (Workload(host, net_raw=True, mark=0x5A000001), "refused"),
        ):
            assert workload.ask(address, WEB) == answer, (workload, address)
    assert ask(peer.connect(host.ip4, WEB)) == "app:hello"


def test_a_beat_without_listeners_refuses_at_once(hosts: tuple[Host, Host]) -> None:
    """A defect of the agent must not turn into a bypass: nothing listens, so nothing is let through."""
    host, peer = hosts
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    for listener in (*agent.outbound.values(), *agent.inbound.values()):
        listener.close()
    for caller, address in ((host, peer.ip4), (host, peer.ip6), (peer, host.ip4), (peer, host.ip6), (host, host.ip4)):
        if host.backend == "iptables" and caller is peer:
            assert not is_answered(caller, address)  # its TPROXY drops what nobody listens for
        else:
            assert refused_at_once(caller, address)


def is_answered(caller: Host, address: str) -> bool:
    """Whether a connection is accepted within a second, in which the first packet is sent twice."""

    def connect() -> bool:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            sock.settimeout(1.5)
            return sock.connect_ex((address, WEB)) == 0

    return caller.run(connect)


def test_a_fresh_table_refuses_what_is_configured_until_somebody_beats(hosts: tuple[Host, Host]) -> None:
    """At boot the rules come before the agent: mesh networks are closed, not open, in between."""
    host, peer = hosts
    apply(host, mesh_cidrs=("10.78.0.0/24", "fd78::/64"))
    assert refused_at_once(host, peer.ip4)
    assert refused_at_once(host, peer.ip6)
    assert ask(host.connect(peer.ip4, SSH)) == "app:hello"
