"""The plan as rules of iptables, compared with golden files. `python -m tests.unit.redirect.test_iptables` writes them anew."""

from dataclasses import replace

import pytest

from redirect.iptables import agent_lines, any_address, ipsets_of, keeper_of, render_layout, set_name
from redirect.iptables_lines import AGENTS_CHAIN, Layout, Line, is_ours, layout_text
from redirect.plan import FAMILIES, KEEPER, plan
from redirect.rules import Chain, Hook, Marked, Rule, Ruleset, SetMark, Table, ToPorts
from redirect.settings import Settings
from tests.unit.redirect.test_plan import GOLDEN, SCENARIOS, UIDS

IPTABLES = {name: replace(settings, backend="iptables") for name, settings in SCENARIOS.items()}
HOST = IPTABLES["host"]


def layouts(settings: Settings) -> dict[int, Layout]:
    return {family: render_layout(plan(settings), family) for family in FAMILIES}


def golden_text(name: str) -> str:
    """What the file of a scenario should hold."""
    return "\n".join([line for f, layout in layouts(IPTABLES[name]).items() for line in layout_text(layout, f)] + [""])


def rules(layout: Layout, table: str, chain: str) -> list[Line]:
    return layout[table][f"nodeagent_{chain}"]


@pytest.mark.parametrize("name", IPTABLES)
def test_the_rules_are_those_that_were_reviewed(name: str) -> None:
    """A change of the plan is a change of a file that somebody reads."""
    assert golden_text(name) == (GOLDEN / f"{name}.iptables").read_text(encoding="utf-8")


@pytest.mark.parametrize("settings", IPTABLES.values(), ids=IPTABLES)
def test_no_rule_of_ours_decides_for_others(settings: Settings) -> None:
    """ACCEPT would end the chain for rules that are not ours, and so would DROP."""
    targets = {line.target for f in FAMILIES for t in layouts(settings)[f].values() for ls in t.values() for line in ls}
    foreign = {target for target in targets if not target.startswith("nodeagent_")}
    assert foreign <= {"RETURN", "MARK", "CONNMARK", "REDIRECT", "REJECT", "TPROXY"}


@pytest.mark.parametrize("settings", IPTABLES.values(), ids=IPTABLES)
def test_names_are_short_enough_for_the_kernel(settings: Settings) -> None:
    """28 characters for chains, 31 for sets."""
    assert all(len(chain) <= 28 for f in FAMILIES for chains in layouts(settings)[f].values() for chain in chains)
    assert all(len(ipset.name) <= 31 for ipset in ipsets_of(plan(settings)))


@pytest.mark.parametrize("settings", IPTABLES.values(), ids=IPTABLES)
def test_every_rule_that_acts_asks_for_tcp_and_none_for_anything_else(settings: Settings) -> None:
    """"Not TCP" python-iptables writes for IPv6 so that it means every packet, and reads it back as it was meant."""
    lines = [line for f in FAMILIES for t in layouts(settings)[f].values() for c, ls in t.items() if is_ours(c) for line in ls]
    asked = {line.basics.get("protocol", "") for line in lines if line.target in ("REDIRECT", "REJECT", "TPROXY", "CONNMARK")}
    assert asked == {"tcp"}
    assert {line.basics.get("protocol", "") for line in lines} == {"", "tcp"}


def test_only_mangle_knows_the_agents_cgroup() -> None:
    """The kernel refuses every change of a table with a rule whose cgroup has ended."""
    layout = render_layout(plan(HOST), 4)
    assert AGENTS_CHAIN in layout["mangle"]
    targets = [line.target for line in rules(layout, "mangle", "ident")]
    assert targets.index("CONNMARK") < targets.index(AGENTS_CHAIN)
    assert targets.count(AGENTS_CHAIN) == 1
    assert not any(name == "cgroup" for t in layout.values() for c in t.values() for line in c for name, _ in line.matches)


def test_the_agent_is_told_by_uid_and_cgroup() -> None:
    """And root, whose sockets workers use."""
    lines = agent_lines(HOST, ["system.slice/nodeagent.service"])
    assert [[*map(str, (0, *UIDS))]] == [[line.matches[0][1]["uid-owner"][0] for line in lines]]
    assert {"/system.slice/nodeagent.service"} == {line.matches[1][1]["path"][0] for line in lines}
    assert agent_lines(HOST, []) == []


def test_what_nat_has_not_redirected_filter_refuses_without_a_question() -> None:
    """Nat comes first here: a beat between the two must not let a call through in clear, but what was dialled elsewhere."""
    layout = render_layout(plan(HOST), 4)
    asking = {chain for t in ("nat", "filter") for chain, ls in layout[t].items() for line in ls if "alive4" in str(line.matches)}
    assert {"nodeagent_take", "nodeagent_pre", "nodeagent_refuse", "nodeagent_closed"} == asking
    (let,) = (line for line in rules(layout, "filter", "closed") if "alive4" in str(line.matches))
    assert (let.target, let.matches[1:]) == ("RETURN", [("conntrack", {"ctstate": ["DNAT"]})])
    *exceptions, last = rules(layout, "filter", "refuse")
    assert (last.target, last.matches) == ("REJECT", [])
    for line in exceptions:  # only where nobody beats and control has said so
        assert {"! nodeagent_alive4", "nodeagent_told_closed4"} <= {" ".join(words["match-set"][:-1]) for _, words in line.matches[:1] + line.matches[-2:] if "match-set" in words}
    assert rules(layout, "filter", "pre")[-2:] == [
        Line({"protocol": "tcp"}, [("set", {"match-set": ["nodeagent_local_ports", "dst"]}), ("socket", {"transparent": []})], "RETURN", {}),
        *rules(layout, "filter", "pre")[-1:],
    ]  # fmt: skip
    assert rules(layout, "filter", "pre")[-1].target == "REJECT"


def test_what_an_application_holds_is_left_to_it() -> None:
    """TPROXY drops packets of sockets that are not transparent: old connections would end."""
    lines = rules(render_layout(plan(HOST), 6), "mangle", "pre")
    (place,) = (number for number, line in enumerate(lines) if line.target == "TPROXY")
    assert lines[place - 1].target == "RETURN"
    assert [name for name, _ in lines[place - 1].matches] == ["set", "tcp", "socket"]


def test_the_keeper_is_what_is_left() -> None:
    """Its chains and the jumps to them."""
    kept = keeper_of(render_layout(plan(HOST), 4))
    chains = {chain for chains in kept.values() for chain in chains}
    assert {"INPUT", "OUTPUT", f"{KEEPER}_follow_in", f"{KEEPER}_follow_out", f"{KEEPER}_translate"} == chains
    assert keeper_of(kept) == kept


def test_sets_hold_what_they_are_asked_for() -> None:
    """The dead-man switch is on for every address, since ipset looks for something in a packet."""
    kinds = {ipset.name: (ipset.kind, ipset.family, ipset.timeout_s) for ipset in ipsets_of(plan(HOST))}
    assert kinds[set_name("mesh6")] == ("hash:ip", 6, 0)
    assert kinds[set_name("local_ports")] == ("bitmap:port", 4, 0)
    assert kinds[f"{set_name('alive')}4"] == ("hash:net", 4, 5)
    assert KEEPER == ipsets_of(plan(HOST))[-1].name
    assert len(any_address(4)) == len(any_address(6)) == 2


def _written(rule: Rule) -> list[Line]:
    chain = Chain("c", (rule,), Hook("filter", "output", -151))
    return render_layout(Ruleset(Table("t", (), (chain,)), Table("k", (), ())), 4)["mangle"]["t_c"]


def test_a_rule_with_more_ports_than_one_takes_becomes_two() -> None:
    """A range counts twice, and fifteen are the limit."""
    ranges = (*tuple((port, port + port % 2) for port in range(100, 140, 2)), (201, 203))
    lists = [line.matches[0][1]["dports"][0] for line in _written(Rule((ToPorts(ranges),), SetMark(0)))]
    assert ["100,102,104,106,108,110,112,114,116,118,120,122,124,126,128", "130,132,134,136,138,201:203"] == lists


def test_a_range_of_marks_is_values_with_masks() -> None:
    """As few as there can be."""
    marks = [line.matches[0][1]["mark"][0] for line in _written(Rule((Marked(((0x100, 0x1FF), (0x5B, 0x5C))),), SetMark(0)))]
    assert ["0x100/0xffffff00", "0x5b/0xffffffff", "0x5c/0xffffffff"] == marks


if __name__ == "__main__":
    for scenario in IPTABLES:
        (GOLDEN / f"{scenario}.iptables").write_text(golden_text(scenario), encoding="utf-8")
