"""What apply leaves where another program changes our rules between its change and the read-back: what was before, nftables."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from redirect import kernel
from redirect.backend import Tables
from redirect.cgroup import read_mount
from redirect.elements import Exceptions
from redirect.errors import RedirectError
from redirect.libnftables import Nft
from redirect.settings import Settings
from tests.e2e.netns import (
    WEB,
    Agent,
    Host,
    Workload,
    apply,
    ask,
    capture,
    record_path,
    start_agent,
    state_of,
)
from tests.e2e.support.elements import find_drift

UNIT, OTHER_UNIT = "system.slice/web.service", "system.slice/shop.service"
MARK, OTHER_MARK = 0x5A000001, 0x5A000002
LIVES_S = 600  # longer than any test; what the plan gives a beat is too short to compare afterwards

FOREIGN_CHAIN = "add chain inet nodeagent mine; add rule inet nodeagent mine jump exempt"
FOREIGN_JUMP = "add chain inet nodeagent mine; insert rule inet nodeagent never jump mine"
NO_CHAIN = "flush chain inet nodeagent around; delete chain inet nodeagent around"
DORMANT = "add table inet nodeagent { flags dormant; }"
NO_TABLE = "delete table inet nodeagent"

CASES = {
    "foreign rule": ("insert rule inet nodeagent out accept", "chain out: not ours: accept"),
    "foreign chain": (FOREIGN_CHAIN, "chain mine is not ours"),
    "foreign jump": (FOREIGN_JUMP, "not ours: jump mine"),
    "chain deleted": (NO_CHAIN, "chain around is missing"),
    "dormant": (DORMANT, "not ours: flags dormant"),
    "table deleted": (NO_TABLE, "table inet nodeagent is missing"),
    "keeper deleted": ("delete table inet nodeagent_keeper", "table inet nodeagent_keeper is missing"),
    "ruleset flushed": ("flush ruleset", "table inet nodeagent_keeper is missing"),
}


@pytest.fixture
def agent(hosts: tuple[Host, Host]) -> Agent:
    """One whose rules are installed, with something in every set that it fills."""
    host, peer = hosts
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer, Exceptions("closed", ((peer.ip4, 9000),), (9001,)))
    host.run(agent.elements.set_units, {host.path_of(UNIT): MARK, host.path_of(OTHER_UNIT): OTHER_MARK}, [MARK])
    host.run(agent.elements.beat, LIVES_S)
    return agent


@pytest.fixture
def meddle(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has something done between the change and the read-back of each later apply."""
    read_back = kernel._find_all_drift

    def meddle(act: Callable[[], object]) -> None:
        def after_that(tables: Tables, settings: Settings) -> tuple[str, ...]:
            act()
            return read_back(tables, settings)

        monkeypatch.setattr(kernel, "_find_all_drift", after_that)

    return meddle


def change(host: Host) -> None:
    """An apply over the installed rules that replaces most chains."""
    apply(host, mesh_cidrs=("10.99.0.0/16",))


def stable_state_of(host: Host) -> dict[str, str]:
    """All that apply could change."""
    state = state_of(host)
    return state | {"rules": in_one_order(state["rules"])}


def in_one_order(listing: str) -> str:
    """Which of the two tables was made first is all the same."""
    return "\n".join(sorted(table.strip() for table in re.split("^(?=table inet)", listing, flags=re.MULTILINE)))


def elements_of(host: Host) -> str:
    """Both tables with their elements, in the words of nft, without counts and times."""
    return in_one_order(re.sub(r"(counter )?packets \d+ bytes \d+| expires \S+", "", host.shell("nft", "list", "ruleset")))


def rest_ms(host: Host) -> int:
    """What the last beat has left."""
    units = {"m": 60_000, "s": 1000, "ms": 1}
    listed = host.shell("nft", "list", "set", "inet", "nodeagent", "alive").partition("expires ")[2]
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|[ms])", listed.split()[0]))


@pytest.mark.parametrize("case", CASES)
def test_what_another_program_did_meanwhile_is_undone_too(
    hosts: tuple[Host, Host], agent: Agent, meddle: Callable[[Callable[[], object]], None], case: str
) -> None:
    """Rules, elements and traffic are as before, the error tells the difference, and a beat has not become longer."""
    host, peer = hosts
    commands, difference = CASES[case]
    opened = host.connect(peer.ip4, WEB)
    assert ask(opened) == "agent:hello"
    before, elements = stable_state_of(host), elements_of(host)
    record, rest = record_path(host).read_text(), rest_ms(host)
    meddle(lambda: host.shell("nft", commands))
    with pytest.raises(RedirectError, match=rf"differs from the plan, so all was put back: .*{difference}"):
        change(host)
    assert stable_state_of(host) == before
    assert elements_of(host) == elements
    assert record_path(host).read_text() == record
    assert 0 < rest_ms(host) <= rest
    assert ask(opened) == "agent:hello"
    assert Workload(host, UNIT).ask(peer.ip4, WEB) == "agent:hello"
    assert agent.learned(4).mark == MARK
    assert host.run(find_drift, agent.elements) == ()


def test_what_else_was_in_the_table_comes_back(host: Host, agent: Agent, meddle: Callable[[Callable[[], object]], None]) -> None:
    """An object of a kind that no plan of ours has, here a quota; rolled back is to what was there, not to a plan."""
    host.shell("nft", "add quota inet nodeagent theirs { over 25 mbytes }")
    before, elements = stable_state_of(host), elements_of(host)
    meddle(lambda: host.shell("nft", NO_TABLE))
    with pytest.raises(RedirectError, match="all was put back"):
        change(host)
    assert stable_state_of(host) == before
    assert elements_of(host) == elements


def test_a_beat_that_ran_out_is_not_repeated(
    hosts: tuple[Host, Host], agent: Agent, meddle: Callable[[Callable[[], object]], None]
) -> None:
    """An agent that is dead by then stays dead to the kernel."""
    host, peer = hosts
    host.run(agent.elements.beat, 1)

    def outlast() -> None:
        host.shell("sh", "-c", "while nft list set inet nodeagent alive | grep -q elements; do sleep 0.1; done")
        host.shell("nft", NO_TABLE)

    meddle(outlast)
    with pytest.raises(RedirectError, match="all was put back"):
        change(host)
    assert "elements" not in host.shell("nft", "list", "set", "inet", "nodeagent", "alive")
    assert Workload(host, UNIT).ask(peer.ip4, WEB) == "refused"


def test_a_cgroup_that_ended_meanwhile_costs_no_other(
    host: Host, agent: Agent, meddle: Callable[[Callable[[], object]], None]
) -> None:
    """Its element goes; those of its neighbours, and what goes with them, come back."""

    def end() -> None:
        host.shell("nft", NO_TABLE)
        Path(read_mount(), host.path_of(OTHER_UNIT)).rmdir()

    meddle(end)
    with pytest.raises(RedirectError, match="all was put back"):
        change(host)
    units = host.shell("nft", "list", "map", "inet", "nodeagent", "units")
    assert f'{host.path_of(UNIT)}" : {MARK:#010x}' in units
    assert f"{OTHER_MARK:#010x}" not in units
    assert "nodeagent.service" in host.shell("nft", "list", "set", "inet", "nodeagent", "agents")
    assert agent.elements.verify_capture() == ()


def test_a_first_apply_leaves_nothing(host: Host, meddle: Callable[[Callable[[], object]], None]) -> None:
    """What was not there before is not there afterwards, whoever changed it meanwhile."""
    before = stable_state_of(host)
    for commands, difference in CASES.values():
        meddle(lambda commands=commands: host.shell("nft", commands))  # type: ignore[misc]
        with pytest.raises(RedirectError, match=f"all was put back: .*{difference}"):
            apply(host)
        assert stable_state_of(host) == before
        assert not record_path(host).exists()


@pytest.mark.parametrize("command", ["ip rule del pref 1330", "ip route flush table 133", "sysctl -qw net.ipv4.tcp_fwmark_accept=0"])
def test_the_return_path_is_as_before_too(
    host: Host, agent: Agent, meddle: Callable[[Callable[[], object]], None], command: str
) -> None:
    """Policy rules, routes and sysctls that were there already and that somebody else took away meanwhile."""
    before = stable_state_of(host)
    meddle(lambda: host.shell(*command.split()))
    with pytest.raises(RedirectError, match="all was put back"):
        change(host)
    assert stable_state_of(host) == before
    assert host.run(find_drift, agent.elements) == ()


def test_what_cannot_be_put_back_is_said_so(
    host: Host, agent: Agent, meddle: Callable[[Callable[[], object]], None]
) -> None:
    """Here another program has made the table its own: the kernel lets nobody else touch it while that one lives."""
    owner = host.run(Nft)
    host.stack.callback(owner.close)
    meddle(lambda: host.run(owner.run, f"{NO_TABLE}\ntable inet nodeagent {{ flags owner; }}"))
    with pytest.raises(RedirectError, match=r"chain out is missing.*not all could be put back: .*nodeagent intercept apply") as caught:
        change(host)
    assert "all was put back" not in str(caught.value)
    owner.close()  # the kernel takes its table away
    meddle(lambda: None)
    apply(host)
    host.run(agent.elements.restore)
    assert host.run(find_drift, agent.elements) == ()
