"""The bytes of tables without their counters."""

import struct

import pytest

from redirect.rules import Family
from redirect.xtables_blob import entries_in, table_names


def entry(family: Family, size: int, *, packets: int) -> bytes:
    """A rule as the kernel has it: of all that is in it only where it ends and what it has counted."""
    at_next, at_counters = (90, 96) if family == 4 else (142, 152)
    raw = bytearray(b"x" * size)
    struct.pack_into("=H", raw, at_next, size)
    struct.pack_into("=QQ", raw, at_counters, packets, packets * 40)
    return bytes(raw)


@pytest.mark.parametrize("family", [4, 6])
def test_counters_make_no_difference_and_rules_do(family: Family) -> None:
    """However many there are, and each to its end."""
    first, second = (entry(family, 168, packets=0) + entry(family, 200, packets=n) for n in (1, 10**9))
    assert [*entries_in(first, family)] == [*entries_in(second, family)]
    assert [168, 200] == [len(each) for each in entries_in(first, family)]
    assert [*entries_in(first, family)] != [*entries_in(entry(family, 168, packets=0), family)]


def test_a_size_of_zero_does_not_turn_for_ever() -> None:
    """The kernel gives none."""
    assert len([*entries_in(bytes(200), 4)]) == 1


def test_only_tables_that_we_use_are_looked_at() -> None:
    """In this order."""
    assert set(table_names(4)) <= {"mangle", "filter", "nat"}
