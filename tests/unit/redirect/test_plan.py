"""The plan, compared with golden files. `python -m tests.unit.redirect.test_plan` writes them anew, for a review of the diff."""

from dataclasses import replace
from pathlib import Path

import pytest

from redirect.nft import render_table
from redirect.plan import AROUND_HOOK, OUT_HOOK, plan, ranges_of
from redirect.rules import (
    Accept,
    Beating,
    Bypass,
    Goto,
    Jump,
    NotMarkedFrom,
    OfUsers,
    Opening,
    RedirectTo,
    Reset,
    Ruleset,
    ToAddressSet,
    ToEndpointSet,
    Told,
    ToPorts,
    ToPortSet,
    ToThisHost,
    Translated,
)  # fmt: skip
from redirect.settings import ReturnPath, Settings

GOLDEN = Path(__file__).parent / "golden"
UIDS = (990, 991)
SCENARIOS = {
    "host": Settings(agent_uids=UIDS, other_ports=(15020,), exclude_addresses=(("10.0.0.9", 8501), ("fd00::9", 8501))),
    "lab": Settings(agent_uids=(64901, 64902), cgroup_root="nodeagent-lab/demo/host1"),
    "open": Settings(agent_uids=UIDS, fail="open"),
    "callers": Settings(agent_uids=UIDS, fail="open", knows_callers=True, closed_uids=(1001, 1002)),
    "networks": Settings(
        agent_uids=(990,), catalog_port=8443, mesh_cidrs=("10.1.0.0/16", "10.0.0.0/16", "fd77::/64"), exclude_ports=(8301, 9100, 9101),
        exclude_cidrs=("10.1.7.0/24", "169.254.7.0/24", "fd77::1:0/112"),
        unit_marks=(0x100, 0x1FF), return_path=ReturnPath(mark=0x5C, table=134, preference=1340),
    ),
}  # fmt: skip


def golden_text(name: str) -> str:
    """What the file of a scenario should hold."""
    return "\n".join(render_table(table) for table in plan(SCENARIOS[name]))


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_rules_are_those_that_were_reviewed(name: str) -> None:
    """A change of the plan is a change of a file that somebody reads."""
    assert golden_text(name) == (GOLDEN / f"{name}.nft").read_text(encoding="utf-8")


def chain(ruleset: Ruleset, name: str) -> list[object]:
    """(conditions, action) of each rule of a chain of the capturing table."""
    return [
        (rule.conditions, rule.action) for found in ruleset.main.chains if found.name == name for rule in found.rules
    ]


@pytest.mark.parametrize("settings", SCENARIOS.values(), ids=SCENARIOS)
def test_every_chain_that_acts_lets_the_exempt_go_first(settings: Settings) -> None:
    """What is open already, the agent, and what is never captured."""
    ruleset = plan(settings)
    for name, never in (("closed", 4), ("out", 1)):
        assert (chain(ruleset, name)[0], chain(ruleset, name)[never]) == (((), Jump("exempt")), ((), Jump("never")))
    assert ((Opening(holds=False),), Accept()) in chain(ruleset, "exempt")


@pytest.mark.parametrize("settings", SCENARIOS.values(), ids=SCENARIOS)
def test_ssh_and_the_agents_ports_are_in_every_list_of_ports_never_captured(settings: Settings) -> None:
    """In both directions, whatever is excluded besides."""
    lists = [
        conditions[0]
        for name in ("never", "pre")
        for conditions, action in chain(plan(settings), name)
        if conditions and isinstance(conditions[0], ToPorts) and action == Accept()
    ]
    assert len(lists) == 2
    for ports in lists:
        covered = {port for first, last in ports.ranges for port in range(first, last + 1)}
        assert {22, 53, 8300, 8500, 8600, *settings.agent_ports, *settings.exclude_ports} <= covered


@pytest.mark.parametrize("settings", SCENARIOS.values(), ids=SCENARIOS)
def test_tunnels_are_for_agents_and_root_to_open(settings: Settings) -> None:
    """Others are refused at hosts of the mesh, before anything is redirected."""
    port = ToPorts(((settings.tunnel_port, settings.tunnel_port),))
    users, *others = chain(plan(settings), "closed")[1:4]
    assert users == ((port, OfUsers((0, *settings.agent_uids))), Accept())
    assert others == [((port, ToAddressSet(4, "mesh4")), Reset()), ((port, ToAddressSet(6, "mesh6")), Reset())]


@pytest.mark.parametrize("settings", SCENARIOS.values(), ids=SCENARIOS)
def test_nothing_bypasses_the_agent_but_while_nobody_beats_and_by_what_control_said(settings: Settings) -> None:
    """Each chain asks by itself, as the switch may fall in between; what comes to the end is refused, or goes to the agent."""
    ruleset = plan(settings)
    for name, last in (("refuse", Reset), ("take", RedirectTo)):
        *judged, (_, end) = chain(ruleset, name)
        let = [conditions for conditions, action in judged if isinstance(action, Accept | Bypass)]
        assert let
        assert all({Beating("alive", holds=False), Told(f"told_{settings.fail}")} <= set(conditions) for conditions in let)
        assert isinstance(end, last)


@pytest.mark.parametrize("settings", SCENARIOS.values(), ids=SCENARIOS)
def test_what_nat_has_not_redirected_is_refused_while_somebody_beats(settings: Settings) -> None:
    """After all nat (-100), for the same destinations; what has another than was dialled is let by: it is somebody else's, or the agent's port."""
    ruleset = plan(settings)
    assert OUT_HOOK.priority < -100 < AROUND_HOOK.priority
    captured = [[conditions for conditions, action in chain(ruleset, name) if action == end] for name, end in (("out", Goto("take")), ("around", Reset()))]
    assert captured[0] == captured[1] != []
    let = [conditions for conditions, action in chain(ruleset, "around") if action == Accept()]
    assert let == [(Beating("alive", holds=False),), (Translated(),)]


def test_open_excepts_what_stays_closed_and_closed_what_may_pass() -> None:
    """The same sets; which of both they mean is said beside them."""
    closed, opened = plan(SCENARIOS["host"]), plan(SCENARIOS["open"])
    excepted = [ToEndpointSet(4, "except4"), ToEndpointSet(6, "except6"), ToPortSet("except_ports")]
    for ruleset, kind in ((closed, Accept), (opened, Reset)):
        rules = chain(ruleset, "refuse")[:3]
        assert all(wanted in conditions for wanted, (conditions, _) in zip(excepted, rules, strict=True))
        assert all(isinstance(action, kind) for _, action in rules)
    assert ((Beating("alive", holds=False), Told("told_open")), Accept()) in chain(opened, "refuse")


def test_an_endpoint_that_may_pass_is_another_host_s() -> None:
    """At this host's own addresses the port decides, whatever another host registers there."""
    for name in ("refuse", "take"):
        for conditions, _ in chain(plan(SCENARIOS["host"]), name)[:2]:
            assert isinstance(conditions, tuple)
            assert ToThisHost(holds=False) in conditions


def test_where_some_callers_stay_closed_only_known_ones_pass() -> None:
    """Whoever has no mark, or another, comes first in both chains; iptables has no marks, so nobody passes."""
    settings = SCENARIOS["callers"]
    for name in ("refuse", "take"):
        (users, _), (marks, _) = chain(plan(settings), name)[:2]
        assert OfUsers((1001, 1002)) in users
        assert NotMarkedFrom("open_callers") in marks
        assert chain(plan(replace(settings, backend="iptables")), name)[0][0] == (Beating("alive", holds=False),)


def test_what_is_stamped_refused_and_redirected_is_the_same() -> None:
    """One list of destinations, three ways on."""
    ruleset = plan(SCENARIOS["networks"])
    stamped, refused, redirected = (
        [conditions for conditions, action in chain(ruleset, name) if action == Goto(to)]
        for name, to in (("ident", "stamp"), ("closed", "refuse"), ("out", "take"))
    )
    assert stamped == refused == redirected
    assert len(stamped) == 5


def test_numbers_become_disjoint_ranges() -> None:
    """The kernel refuses overlaps in one list."""
    assert ranges_of([8502, 22, 8500, 8501, 22]) == ((22, 22), (8500, 8502))
    assert ranges_of([]) == ()


if __name__ == "__main__":
    for scenario in SCENARIOS:
        (GOLDEN / f"{scenario}.nft").write_text(golden_text(scenario), encoding="utf-8")
