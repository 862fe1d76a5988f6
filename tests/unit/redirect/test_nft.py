"""Text of nft: made, taken apart, compared."""

import pytest

from redirect import nft as text
from redirect.plan import plan
from redirect.rules import (
    Accept,
    Action,
    Beating,
    Chain,
    Condition,
    Count,
    Established,
    FromLoopback,
    Goto,
    Hook,
    InCgroup,
    Jump,
    Marked,
    NamedSet,
    NotFromAddressSet,
    NotFromNetworks,
    OfFamily,
    OfUsers,
    Opening,
    RedirectTo,
    Reset,
    Rule,
    SetMark,
    StampFrom,
    Table,
    Tcp,
    ToAddressSet,
    ToEndpoints,
    ToNetworks,
    ToPorts,
    ToPortSet,
    ToThisHost,
    TproxyTo,
)
from redirect.settings import Settings

LISTING = """table inet nodeagent {
\tflags dormant
\tset mesh4 {\t\t# count 2
\t\ttype ipv4_addr
\t\telements = { 10.0.0.1, 10.0.0.2,
\t\t\t     10.0.0.3 }
\t}

\tmap units {
\t\ttype cgroupsv2 : mark
\t}

\tchain out {
\t\ttype nat hook output priority -101; policy accept;
\t\tjump never
\t}
}
"""


def rendered(rule: Rule) -> str:
    """The line of one rule."""
    return text.parse_table(text.render_table(Table("t", (), (Chain("c", (rule,)),)))).bodies["chain c"][0]


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (Tcp(), "meta l4proto tcp"),
        (Tcp(holds=False), "meta l4proto != tcp"),
        (Opening(), "tcp flags & (fin|syn|rst|ack) == syn"),
        (Opening(holds=False), "tcp flags & (fin|syn|rst|ack) != syn"),
        (ToPorts(((22, 22),)), "tcp dport 22"),
        (ToPorts(((22, 22), (80, 90))), "tcp dport { 22, 80-90 }"),
        (ToPortSet("p"), "tcp dport @p"),
        (ToPortSet("p", holds=False), "tcp dport != @p"),
        (ToNetworks(4, ("10.0.0.0/8",)), "ip daddr { 10.0.0.0/8 }"),
        (ToAddressSet(6, "m"), "ip6 daddr @m"),
        (ToEndpoints(4, (("10.0.0.1", 80),)), "ip daddr . tcp dport { 10.0.0.1 . 80 }"),
        (ToThisHost(), "fib daddr type local"),
        (ToThisHost(holds=False), "fib daddr type != local"),
        (NotFromNetworks(6, ("fd00::/8",)), "ip6 saddr != { fd00::/8 }"),
        (NotFromAddressSet(4, "m"), "ip saddr != @m"),
        (OfFamily(6), "meta nfproto ipv6"),
        (FromLoopback(), 'iifname "lo"'),
        (OfUsers((1, 2)), "meta skuid { 1, 2 }"),
        (InCgroup(3, "a"), "socket cgroupv2 level 3 @a"),
        (Beating("alive"), "meta l4proto @alive"),
        (Beating("alive", holds=False), "meta l4proto != @alive"),
        (Marked(((0x5B, 0x5B),)), "meta mark 0x5b"),
        (Marked(((1, 15),)), "meta mark 0x1-0xf"),
        (Established(), "ct state established"),
    ],
)
def test_each_condition_has_its_words(condition: Condition, words: str) -> None:
    """Those of `man nft`."""
    assert rendered(Rule((condition,), Accept())) == f"{words} accept"


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Count(), "counter"),
        (Jump("x"), "jump x"),
        (Goto("x"), "goto x"),
        (RedirectTo(15001), "meta l4proto tcp redirect to :15001"),
        (TproxyTo(4, 15006), "meta l4proto tcp tproxy ip to 127.0.0.1:15006 accept"),
        (TproxyTo(6, 15006), "meta l4proto tcp tproxy ip6 to [::1]:15006 accept"),
        (Reset(), "meta l4proto tcp reject with tcp reset"),
        (SetMark(0x5B), "meta mark set 0x5b"),
        (StampFrom(2, "units"), "meta mark set socket cgroupv2 level 2 map @units"),
    ],
)
def test_each_action_has_its_words(action: Action, words: str) -> None:
    """Those of `man nft`, behind the conditions."""
    assert rendered(Rule((Tcp(),), action)) == f"meta l4proto tcp {words}"


def test_a_rule_may_count_and_say_why() -> None:
    """In the order in which nft lists them."""
    assert rendered(Rule((), Accept(), "because", counted=True)) == 'counter accept comment "because"'


def test_a_table_is_rendered_with_sets_hooks_and_rules() -> None:
    """Whole, as nft reads it."""
    chains = (Chain("c", (Rule((), Accept()),), Hook("nat", "output", -101)), Chain("d", ()))
    sets = (NamedSet("a", "inet_proto", timeout_s=5), NamedSet("m", "cgroupsv2", to_mark=True))
    assert text.render_table(Table("t", sets, chains)).split("\n") == [
        "table inet t {", "\tset a {", "\t\ttype inet_proto", "\t\tflags timeout", "\t\ttimeout 5s", "\t}", "",
        "\tmap m {", "\t\ttype cgroupsv2 : mark", "\t}", "",
        "\tchain c {", "\t\ttype nat hook output priority -101; policy accept;", "\t\taccept", "\t}", "",
        "\tchain d {", "\t}", "}", "",
    ]  # fmt: skip


def test_a_listing_is_taken_apart() -> None:
    """Lines of the table itself, and each block under its heading; nft's own remarks are not part of it."""
    blocks = text.parse_table(LISTING)
    assert blocks.is_dormant
    assert blocks.chains == ("chain out",)
    assert blocks.sets == ("set mesh4", "map units")
    assert blocks.bodies["chain out"] == ("type nat hook output priority -101; policy accept;", "jump never")
    assert text.elements_in(blocks.bodies["set mesh4"]) == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    assert text.elements_in(blocks.bodies["map units"]) == frozenset()


def test_what_is_rendered_is_parsed_back() -> None:
    """The two are each other's inverse on the real plan."""
    for table in plan(Settings(agent_uids=(1,), mesh_cidrs=("10.0.0.0/8",))):
        whole = text.render_table(table)
        assert text.render_blocks(table.name, text.parse_table(whole)) == whole


def test_a_dormant_copy_differs_in_that_only() -> None:
    """It can stand for the real one in a comparison."""
    blocks = text.parse_table(LISTING)
    awake = text.awakened(blocks)
    assert not awake.is_dormant
    assert text.parse_table(text.render_blocks("t", awake, dormant=True)) == text.Blocks(blocks.head, blocks.bodies)
    assert text.render_blocks("t", blocks, dormant=True).count("dormant") == 1


def test_a_swap_touches_no_kept_set_and_no_set_before_its_users() -> None:
    """Chains are emptied before they are deleted, sets are deleted after the chains that look into them."""
    found = text.Blocks(
        (),
        {
            "set a": ("type x",),
            "set b": ("type x",),
            "map c": ("type x",),
            "chain old": ("jump older",),
            "chain older": (),
        },
    )
    wanted = text.Blocks((), {"set a": ("type x",), "set b": ("type y",), "chain new": ("accept",)})
    assert text.render_swap("t", found=found, wanted=wanted, kept=["set a"]).split("\n") == [
        "flush chain inet t old", "flush chain inet t older", "delete chain inet t old", "delete chain inet t older",
        "delete set inet t b", "delete map inet t c",
        "table inet t {", "\tset b {", "\t\ttype y", "\t}", "", "\tchain new {", "\t\taccept", "\t}", "}", "",
    ]  # fmt: skip


def test_differences_are_sentences() -> None:
    """Missing and foreign blocks, missing and foreign lines."""
    expected = text.Blocks((), {"chain a": ("one", "two"), "chain b": ()})
    found = text.Blocks(("flags dormant",), {"chain a": ("one", "three"), "set c": ()})
    assert list(text.differences("t", found, expected)) == [
        "table inet t: not ours: flags dormant",
        "table inet t, chain a: missing: two",
        "table inet t, chain a: not ours: three",
        "table inet t: chain b is missing",
        "table inet t: set c is not ours",
    ]
    assert list(text.differences("t", expected, expected)) == []


def test_rules_in_another_order_are_a_difference() -> None:
    """The order is the meaning."""
    one, other = text.Blocks((), {"chain a": ("one", "two")}), text.Blocks((), {"chain a": ("two", "one")})
    assert list(text.differences("t", one, other)) != []


def test_elements_are_one_command_each_way() -> None:
    """Filling is flush and add in one text, so one transaction; nothing to add is no command at all."""
    assert text.render_fill("t", "set s", ["a", "b"]) == "flush set inet t s\nadd element inet t s { a, b }\n"
    assert text.render_fill("t", "map m", []) == "flush map inet t m\n"
    assert text.render_add("t", "set s", []) == ""
    assert text.render_drop("t", "set s", ["a"]) == "delete element inet t s { a }\n"


def test_a_table_is_removed_whether_it_is_there_or_not() -> None:
    """Also woken and put to sleep, without a word about its content."""
    assert text.render_removal("t") == "add table inet t\ndelete table inet t\n"
    assert text.render_waking("t") == "add table inet t\n"
    assert text.render_sleeping("t") == "table inet t {\n\tflags dormant\n}\n"


@pytest.mark.parametrize(
    ("listed", "passed_s", "left"),
    [
        ("tcp", 9.0, "tcp"),
        ("tcp expires 4s856ms", 1.0, "tcp expires 3856ms"),
        ("tcp timeout 2h expires 1h59m59s", 0.5, "tcp timeout 2h expires 7198500ms"),
        ("tcp expires 1d", 86_399.0, "tcp expires 1000ms"),
        ("tcp expires 500ms", 0.5, None),
        ("tcp expires 0s", 0.0, None),
    ],
)
def test_an_element_has_less_time_left_later(listed: str, passed_s: float, left: str | None) -> None:
    """In the units of nft; none when it is over."""
    assert text.aged(listed, passed_s) == left


def test_sets_keyed_by_cgroup_are_known_by_their_type() -> None:
    """With or without a value."""
    assert text.holds_cgroups(("type cgroupsv2", "size 100"))
    assert text.holds_cgroups(("type cgroupsv2 : mark",))
    assert not text.holds_cgroups(("type ipv4_addr", "elements = { 192.0.2.1 }"))
