"""What the supervisor changes while traffic flows: many addresses, cgroups that come and go, sets that others touch."""

import ipaddress
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from redirect.cgroup import read_mount
from redirect.elements import Elements
from redirect.errors import RedirectError
from tests.e2e.netns import OTHER, WEB, Agent, Host, Workload, apply, ask, capture, settings_for, start_agent, two_hosts
from tests.e2e.support.elements import find_drift

MANY = 20_000
UNITS = 300
STALL_S = 0.25  # callers whose owner is looked up for longer than this stay unidentified
WEB_UNIT, WEB_MARK = "system.slice/web.service", 0x5A000007


@pytest.fixture
def mesh() -> Iterator[tuple[Host, Host, Agent]]:
    """Rules, an agent that has just beaten, and a peer that answers."""
    with two_hosts() as (host, peer):
        for port in (WEB, OTHER):
            peer.listen("app", peer.ip4, port)
            host.listen("app", host.ip4, port)
        agent = start_agent(host)
        apply(host)
        capture(host, agent, peer)
        yield host, peer, agent


def cgroup_of(host: Host, unit: str) -> Path:
    return Path(read_mount(), host.path_of(unit))


def test_twenty_thousand_addresses(mesh: tuple[Host, Host, Agent]) -> None:
    """All of them are in the kernel; one more, one less and none at all work like the first."""
    host, peer, agent = mesh
    first = ipaddress.ip_address("10.100.0.0")
    many = [str(first + number) for number in range(MANY)] + [
        str(ipaddress.ip_address("fd99::") + n) for n in range(MANY)
    ]
    for addresses, answer in (
        (many, "app"),
        ([*many, peer.ip4], "agent"),
        (many[1:], "app"),
        ([], "app"),
        ([peer.ip4], "agent"),
    ):
        host.run(agent.elements.set_capture, addresses, [WEB])
        host.run(agent.elements.beat)
        assert host.run(find_drift, agent.elements) == ()
        assert ask(host.connect(peer.ip4, WEB)) == f"{answer}:hello"


def test_ports_come_and_go(mesh: tuple[Host, Host, Agent]) -> None:
    """A service that is registered is captured from the next connection on, and let go when it is not."""
    host, peer, agent = mesh
    for ports, web, other in (((WEB, OTHER), "agent", "agent"), ((OTHER,), "app", "agent"), ((), "app", "app")):
        host.run(agent.elements.set_capture, [peer.ip4], ports)
        assert ask(peer.connect(host.ip4, WEB)) == f"{web}:hello"
        assert ask(peer.connect(host.ip4, OTHER)) == f"{other}:hello"
        assert ask(host.connect(host.ip4, WEB)) == f"{web}:hello"


def test_what_others_did_to_the_sets_is_seen_and_put_right(mesh: tuple[Host, Host, Agent]) -> None:
    """An address that is missing is traffic in clear: the difference is named, and restore ends it."""
    host, peer, agent = mesh
    host.run(agent.elements.set_units, {host.path_of(WEB_UNIT): WEB_MARK})
    assert host.run(find_drift, agent.elements) == ()
    host.shell("nft", f"delete element inet nodeagent mesh4 {{ {peer.ip4} }}")
    host.shell("nft", "add element inet nodeagent local_ports { 99 }")
    host.shell("nft", "flush map inet nodeagent units")
    said = "; ".join(host.run(find_drift, agent.elements))
    assert f"set mesh4: elements missing: 1, such as {peer.ip4}" in said
    assert "set local_ports: elements that are not ours: 1, such as 99" in said
    assert "; map units: " in said
    of_capture = "; ".join(host.run(agent.elements.verify_capture))
    assert of_capture == said.partition("; map units")[0]
    host.run(agent.elements.refill_cgroups)
    assert "; ".join(host.run(find_drift, agent.elements)) == of_capture
    host.run(agent.elements.restore)
    assert host.run(find_drift, agent.elements) == ()
    assert ask(host.connect(peer.ip4, WEB)) == "agent:hello"


def test_hundreds_of_units_make_nobody_wait(mesh: tuple[Host, Host, Agent]) -> None:
    """What an agent does every few seconds takes it milliseconds, however many units there are."""
    host, _, agent = mesh
    units = [host.path_of(f"system.slice/many{number}.service") for number in range(UNITS)]
    for unit in units:
        Path(read_mount(), unit).mkdir()
    host.run(agent.elements.set_units, {unit: WEB_MARK + number for number, unit in enumerate(units)})
    began = time.process_time()
    assert host.run(agent.elements.verify_capture) == ()
    host.run(agent.elements.refill_cgroups)
    assert time.process_time() - began < STALL_S


def test_a_change_works_though_others_have_emptied_the_sets(mesh: tuple[Host, Host, Agent]) -> None:
    """What is no longer there cannot be deleted: everything is written anew."""
    host, peer, agent = mesh
    host.shell("nft", "flush set inet nodeagent mesh4")
    host.run(agent.elements.set_capture, [peer.ip6], [])
    assert host.run(find_drift, agent.elements) == ()


def test_a_table_made_anew_is_filled_again(mesh: tuple[Host, Host, Agent]) -> None:
    """After `nft flush ruleset`: apply, restore, and all is as it was, the exemption of the agent included."""
    host, peer, agent = mesh
    host.run(agent.elements.set_units, {host.path_of(WEB_UNIT): WEB_MARK})
    host.shell("nft", "flush ruleset")
    with pytest.raises(RedirectError, match="else: nodeagent intercept apply"):
        host.run(agent.elements.beat)
    assert "map units" in apply(host).emptied
    host.run(agent.elements.restore)
    host.run(agent.elements.beat)
    assert host.run(find_drift, agent.elements) == ()
    assert Workload(host, WEB_UNIT).ask(peer.ip4, WEB) == "agent:hello"
    assert agent.learned(4).mark == WEB_MARK
    assert Workload(host, "nodeagent.service", uid=0).ask(peer.ip4, WEB) == "app:hello"


def test_a_restarted_unit_is_stamped_once_the_map_is_set_again(mesh: tuple[Host, Host, Agent]) -> None:
    """Its new cgroup has another number under the old path, and the dead number cannot be deleted singly."""
    host, peer, agent = mesh
    units = {host.path_of(WEB_UNIT): WEB_MARK}
    for _ in range(3):
        assert host.run(agent.elements.set_units, units) == ()
        assert Workload(host, WEB_UNIT).ask(peer.ip4, WEB) == "agent:hello"
        assert agent.learned(4).mark == WEB_MARK
        cgroup_of(host, WEB_UNIT).rmdir()
        assert host.run(find_drift, agent.elements) == ()
        cgroup_of(host, WEB_UNIT).mkdir()
        assert "map units" in "; ".join(host.run(find_drift, agent.elements))


def test_units_may_be_nested_and_oddly_named(mesh: tuple[Host, Host, Agent]) -> None:
    """Slices in slices, templates, escapes; a process deeper inside the unit is still the unit's."""
    host, peer, agent = mesh
    names = [
        "top.service", "a.slice/a-b.slice/deep.service", "a.slice/a-b.slice/a-b-c.slice/deeper.service",
        r"system.slice/web@\x2dprod.service", "system.slice/" + "x" * 200 + ".service", "system.slice/a:b_c.d-e.service",
    ]  # fmt: skip
    marks = {host.path_of(name): 0x5A000100 + number for number, name in enumerate(names)}
    for name in names:
        cgroup_of(host, name).mkdir(parents=True)
    cgroup_of(host, "top.service/inner").mkdir()
    assert host.run(agent.elements.set_units, marks) == ()
    assert host.run(find_drift, agent.elements) == ()
    for name, mark in zip([*names, "top.service/inner"], [*marks.values(), 0x5A000100], strict=True):
        host.run(agent.elements.beat)
        assert Workload(host, name).ask(peer.ip4, WEB) == "agent:hello"
        assert agent.learned(4).mark == mark


def test_a_cgroup_that_is_gone_or_cannot_be_named_is_left_out(mesh: tuple[Host, Host, Agent]) -> None:
    """The others are set, and the caller learns which are not. A quote in a name starts no command of its maker's."""
    host, peer, agent = mesh
    evil = 'system.slice/x" : 0x5a000009 }; delete table inet nodeagent; #.service'
    cgroup_of(host, evil).mkdir()
    units = {
        host.path_of(WEB_UNIT): WEB_MARK,
        host.path_of("system.slice/gone.service"): 0x5A000008,
        host.path_of(evil): 0x5A000009,
    }
    assert host.run(agent.elements.set_units, units) == (host.path_of("system.slice/gone.service"), host.path_of(evil))
    assert Workload(host, WEB_UNIT).ask(peer.ip4, WEB) == "agent:hello"
    assert agent.learned(4).mark == WEB_MARK


def test_cgroups_may_vanish_while_they_are_set(mesh: tuple[Host, Host, Agent]) -> None:
    """Units stop at any moment, also between our look and the kernel's: the others are set all the same."""
    host, _, agent = mesh
    flickering, stop = cgroup_of(host, "system.slice/flicker.service"), threading.Event()

    def flicker() -> None:
        while not stop.is_set():
            flickering.mkdir()
            flickering.rmdir()

    thread = threading.Thread(target=flicker)
    thread.start()
    try:
        units = {host.path_of(WEB_UNIT): WEB_MARK, host.path_of("system.slice/flicker.service"): 0x5A000008}
        left_out = {host.run(agent.elements.set_units, units) for _ in range(300)}
    finally:
        stop.set()
        thread.join()
    assert left_out == {(), (host.path_of("system.slice/flicker.service"),)}


def test_without_a_table_the_message_says_so() -> None:
    """The cure is in it."""
    with two_hosts() as (host, _), host.run(Elements, settings_for(host)) as elements:
        for act in (elements.beat, elements.stop_beat, lambda: elements.set_capture(["10.0.0.1"], [80]), elements.take_bypassed):
            with pytest.raises(RedirectError, match=r"^table inet nodeagent is not there .*: nodeagent intercept apply$"):
                host.run(act)


@pytest.mark.parametrize(
    ("addresses", "ports"), [(["10.0.0.300"], []), ([], [0]), (["10.0.0.1; flush ruleset"], []), ([], [70000])]
)
def test_bad_values_change_nothing(mesh: tuple[Host, Host, Agent], addresses: list[str], ports: list[int]) -> None:
    """They are refused by name before anything is sent to the kernel."""
    host, peer, agent = mesh
    with pytest.raises(RedirectError, match=r"is no IP address|not between"):
        host.run(agent.elements.set_capture, [*addresses, peer.ip6], [*ports, OTHER])
    with pytest.raises(RedirectError, match="mark 0x5b"):
        host.run(agent.elements.set_units, {host.path_of(WEB_UNIT): 0x5B})
    assert host.run(find_drift, agent.elements) == ()
    assert ask(host.connect(peer.ip4, WEB)) == "agent:hello"
