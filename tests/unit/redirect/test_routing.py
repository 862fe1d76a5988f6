"""Entries of the return path: as words, as arguments, and what foreign rules do to them."""

import pytest

from redirect.routing import (
    Entry,
    FoundRule,
    LocalRoute,
    PolicyRule,
    Seen,
    arguments_of,
    find_entry_drift,
    present_entries,
    shadows,
    wanted_entries,
)
from redirect.settings import ReturnPath

RULE = PolicyRule(4, 0x5B, 1330, 133)
OURS = FoundRule(0x5B, 0xFFFFFFFF, 1330, 133)
NOWHERE = (LocalRoute(4, 3_999_999_999), PolicyRule(6, 0x7FFFFFF1, 31_999, 3_999_999_999))


def test_routes_come_before_the_rules_that_lead_to_them() -> None:
    """And IPv6 has its own."""
    wanted = wanted_entries(ReturnPath())
    assert wanted[0] == LocalRoute(4, 133)
    assert RULE in wanted
    assert [type(entry) for entry in wanted] == sorted(
        (type(entry) for entry in wanted), key=lambda kind: kind is PolicyRule
    )


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (RULE, "policy rule (IPv4) 1330: fwmark 0x5b lookup 133"),
        (LocalRoute(4, 133), "route (IPv4) local 0.0.0.0/0 dev lo table 133 src 127.0.0.1"),
        (LocalRoute(6, 133), "route (IPv6) local ::/0 dev lo table 133"),
    ],
)
def test_an_entry_reads_as_ip_shows_it(entry: Entry, words: str) -> None:
    """So that an operator finds it."""
    assert str(entry) == words


def test_a_rule_takes_the_exact_mark() -> None:
    """Without a mask, other bits of the mark would be ignored."""
    assert arguments_of(RULE) == {"family": 2, "priority": 1330, "fwmark": 0x5B, "fwmask": 0xFFFFFFFF, "table": 133}


def test_only_the_ipv4_route_names_a_source() -> None:
    """IPv6 chooses better by itself."""
    assert arguments_of(LocalRoute(4, 133))["prefsrc"] == "127.0.0.1"
    assert "prefsrc" not in arguments_of(LocalRoute(6, 133))


def test_what_is_not_there_is_not_present_but_drift() -> None:
    """Asked of the kernel; nobody has such a table."""
    assert present_entries(NOWHERE) == ()
    assert [sentence.partition(": missing")[0] for sentence in find_entry_drift(NOWHERE)] == list(map(str, NOWHERE))
    assert present_entries([]) == find_entry_drift([]) == ()


def test_a_rule_is_there_if_it_is_exactly_ours() -> None:
    """Another mask, table or place, or the opposite, is another program's."""
    others = (
        OURS._replace(mask=0xFF), OURS._replace(table=134), OURS._replace(preference=1331),
        OURS._replace(is_inverted=True),
    )  # fmt: skip
    assert RULE in Seen({4: (*others, OURS)}, frozenset())
    assert RULE not in Seen({4: others}, frozenset())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (FoundRule(0x5B, 0xFF, 100, 200), True),
        (FoundRule(0x5B, 0xFFFFFFFF, 1330, 200), True),
        (FoundRule(0x5B, 0xFFFFFFFF, 0, 200), True),
        (FoundRule(0, 0xFF00, 100, 200), True),  # fwmark 0/0xff00
        (FoundRule(0xCA6C, 0xFFFFFFFF, 1329, 51820, is_inverted=True), True),  # as wg-quick's
        (OURS, False),
        (FoundRule(0x5B, 0xFFFFFFFF, 1331, 200), False),
        (FoundRule(0x77, 0xFFFFFFFF, 100, 200), False),
        (FoundRule(0x40000, 0xFF0000, 100, 52), False),
        (FoundRule(0x5B, 0xFFFFFFFF, 100, 200, is_inverted=True), False),
        (FoundRule(0, 0, 0, 255), False),
        (FoundRule(0, 0, 100, 200, is_inverted=True), False),
    ],
)
def test_a_foreign_rule_that_takes_our_mark_first_is_seen(found: FoundRule, *, expected: bool) -> None:
    """Others' masks can meet our mark; rules behind ours, for other marks, or that look at none, are no concern of ours."""
    assert shadows(found, RULE) is expected
    assert any("another program" in said for said in Seen({4: (found, OURS)}, frozenset()).shadowing(RULE)) is expected
