"""Rules of iptables as text, and how they differ."""

from redirect.iptables_lines import AGENTS_CHAIN, Layout, Line, is_ours, layout_differences, layout_text, line_text

JUMP = Line({}, [], "nodeagent_out", {})
RULE = Line(
    {"protocol": "tcp", "dst": "10.0.0.0/8"},
    [("set", {"match-set": ["!", "nodeagent_alive4", "dst"]}), ("comment", {"comment": ["nobody beats"]}), ("socket", {"transparent": []})],
    "REDIRECT",
    {"to-ports": ["15001"]},
)  # fmt: skip


def layout(*lines: Line, agents: tuple[Line, ...] = ()) -> Layout:
    return {"mangle": {AGENTS_CHAIN: [*agents]}, "nat": {"OUTPUT": [JUMP], "nodeagent_out": [*lines]}}


def test_a_line_reads_as_a_command() -> None:
    """Negation before the option, values quoted."""
    assert line_text("nodeagent_out", RULE) == (
        "-A nodeagent_out -p tcp -d 10.0.0.0/8 -m set ! --match-set nodeagent_alive4 dst -m comment --comment 'nobody beats'"
        " -m socket --transparent -j REDIRECT --to-ports 15001"
    )
    assert line_text("OUTPUT", JUMP._replace(is_goto=True)) == "-A OUTPUT -g nodeagent_out"


def test_a_layout_reads_as_a_saved_table() -> None:
    """Chains that are not ours are not made."""
    assert layout_text(layout(), 6) == [
        "# IPv6", "*mangle", f"-N {AGENTS_CHAIN}", "*nat", "-N nodeagent_out", "-A OUTPUT -j nodeagent_out",
    ]  # fmt: skip


def test_each_difference_is_named() -> None:
    """Rules, chains, and a jump that is not where it was put."""
    wanted = layout(RULE)
    assert [*layout_differences(wanted, wanted, 4)] == []
    assert [*layout_differences(layout(), wanted, 4)] == [
        f"IPv4 table nat, chain nodeagent_out: missing: {line_text('nodeagent_out', RULE)}"
    ]
    assert [*layout_differences({"mangle": wanted["mangle"]}, wanted, 4)] == [
        "IPv4 table nat, chain OUTPUT is missing", "IPv4 table nat, chain nodeagent_out is missing",
    ]  # fmt: skip
    more = {**wanted, "nat": {**wanted["nat"], "OUTPUT": [JUMP._replace(basics={"place": "2"})], "nodeagent_x": []}}
    assert [*layout_differences(more, wanted, 4)] == [
        "IPv4 table nat, chain OUTPUT: missing: -A OUTPUT -j nodeagent_out",
        "IPv4 table nat, chain OUTPUT: not ours: -A OUTPUT # at place 2 -j nodeagent_out",
        "IPv4 table nat, chain nodeagent_x is not ours",
    ]


def test_what_the_agents_chain_holds_is_compared_on_demand() -> None:
    """It changes while the rules stay."""
    assert [*layout_differences(layout(agents=(RULE,)), layout(), 4)] == []
    assert len([*layout_differences(layout(agents=(RULE,)), layout(), 4, agents=True)]) == 1


def test_ours_are_chains_with_our_name() -> None:
    """Nobody else's begins so."""
    assert is_ours("nodeagent_out")
    assert not is_ours("OUTPUT")
    assert not is_ours("KUBE-SERVICES")
