"""The plan, compared with golden files. `python -m tests.unit.redirect.test_plan` writes them anew, for a review of the diff."""

from pathlib import Path

import pytest

from redirect.nft import render_table
from redirect.plan import plan, ranges_of
from redirect.rules import Accept, Beating, Jump, Opening, RedirectTo, Reset, Ruleset, ToPorts
from redirect.settings import ReturnPath, Settings

GOLDEN = Path(__file__).parent / "golden"
UIDS = (990, 991)
SCENARIOS = {
    "host": Settings(agent_uids=UIDS, other_ports=(15020,), exclude_addresses=(("10.0.0.9", 8501), ("fd00::9", 8501))),
    "lab": Settings(agent_uids=(64901, 64902), cgroup_root="nodeagent-lab/demo/host1"),
    "open": Settings(agent_uids=UIDS, fail="open"),
    "networks": Settings(
        agent_uids=(990,), mesh_cidrs=("10.1.0.0/16", "10.0.0.0/16", "fd77::/64"), exclude_ports=(8301, 9100, 9101),
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
    for name in ("closed", "out"):
        if rules := chain(ruleset, name):
            assert rules[:2] == [((), Jump("exempt")), ((), Jump("never"))]
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


def test_closed_refuses_where_open_lets_by() -> None:
    """The switch has two readings, and no third: closed never asks `out` for a beat, as it may fall in between."""
    closed, opened = plan(SCENARIOS["host"]), plan(SCENARIOS["open"])
    assert any(action == Reset() for _, action in chain(closed, "closed"))
    assert chain(opened, "closed") == []
    assert ((Beating("alive", holds=False),), Accept()) in chain(opened, "out")
    assert not any(isinstance(c, Beating) for conditions, _ in chain(closed, "out") for c in conditions)


def test_what_is_stamped_refused_and_redirected_is_the_same() -> None:
    """One list of destinations, three actions."""
    ruleset = plan(SCENARIOS["networks"])
    stamped = [conditions for conditions, _ in chain(ruleset, "ident")[4:]]
    refused = [conditions for conditions, action in chain(ruleset, "closed") if action == Reset()]
    redirected = [conditions for conditions, action in chain(ruleset, "out") if isinstance(action, RedirectTo)]
    assert stamped == refused == redirected
    assert len(stamped) == 5


def test_numbers_become_disjoint_ranges() -> None:
    """The kernel refuses overlaps in one list."""
    assert ranges_of([8502, 22, 8500, 8501, 22]) == ((22, 22), (8500, 8502))
    assert ranges_of([]) == ()


if __name__ == "__main__":
    for scenario in SCENARIOS:
        (GOLDEN / f"{scenario}.nft").write_text(golden_text(scenario), encoding="utf-8")
