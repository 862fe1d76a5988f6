"""Entries of the return path: as words, as bytes, and what foreign rules do to them."""

import pytest

from redirect.routing import (
    Entry,
    Found,
    LocalRoute,
    PolicyRule,
    decode_entry,
    encode_entry,
    present_entries,
    shadows,
    wanted_entries,
)
from redirect.settings import ReturnPath

RULE = PolicyRule(4, 0x5B, 1330, 133)
PRIORITY, MARK, TABLE, MASK = 6, 10, 15, 16


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


def test_a_rule_is_encoded_with_its_exact_mark() -> None:
    """Without a mask, other bits of the mark would be ignored."""
    found = decode_entry(encode_entry(RULE))
    assert found.numbers == {PRIORITY: 1330, MARK: 0x5B, MASK: 0xFFFFFFFF, TABLE: 133}
    assert found.header[0] == 2


def test_what_is_not_there_is_not_present() -> None:
    """Asked of the kernel; nobody has such a table."""
    assert present_entries([LocalRoute(4, 3_999_999_999), PolicyRule(6, 0x7FFFFFF1, 31_999, 3_999_999_999)]) == ()


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({PRIORITY: 100, MARK: 0x5B, MASK: 0xFF, TABLE: 200}, True),
        ({PRIORITY: 1330, MARK: 0x5B, MASK: 0xFFFFFFFF, TABLE: 200}, True),
        ({MARK: 0x5B, MASK: 0xFFFFFFFF, TABLE: 200}, True),
        ({PRIORITY: 1330, MARK: 0x5B, MASK: 0xFFFFFFFF, TABLE: 133}, False),
        ({PRIORITY: 1331, MARK: 0x5B, MASK: 0xFFFFFFFF, TABLE: 200}, False),
        ({PRIORITY: 100, MARK: 0x77, MASK: 0xFFFFFFFF, TABLE: 200}, False),
        ({PRIORITY: 100, MARK: 0x40000, MASK: 0xFF0000, TABLE: 52}, False),
        ({PRIORITY: 0, TABLE: 255}, False),
    ],
)
def test_a_foreign_rule_that_takes_our_mark_first_is_seen(numbers: dict[int, int], *, expected: bool) -> None:
    """Others' masks can meet our mark; rules behind ours, or for other marks, do no harm."""
    assert shadows(Found((2,) + (0,) * 8, numbers), RULE) is expected
