"""What is forgotten of redirected connections, with entries that a kernel (6.18) sent."""

import pytest

from redirect.flow import Flow, decode_tuple
from redirect.netlink import decode_attributes
from redirect.tracked import find_stale
from tests.unit.nodeagent.process.test_conntrack import ANSWER, ANSWER6, OWN, OWN6, REMOTE, REPLY, REPLY6

ENTRIES = [bytes.fromhex(ANSWER), bytes.fromhex(ANSWER6)]
ID = 12


def test_an_entry_is_named_by_its_dialled_end_and_its_number() -> None:
    """So that no other is meant that has taken the same ports meanwhile."""
    names = [*find_stale(ENTRIES, {15001}, ())]
    assert [name[:4] for name in names] == [entry[:4] for entry in ENTRIES]
    found, sent = decode_attributes(names[0][4:]), decode_attributes(ENTRIES[0][4:])
    assert found == {1: sent[1], ID: sent[ID]}
    assert decode_tuple(found[1]) == Flow(OWN, 40000, REMOTE, 81)


@pytest.mark.parametrize(("port", "live", "left"), [(15001, {REPLY}, [OWN6]), (15001, {REPLY, REPLY6}, []), (15002, (), [])])
def test_what_is_open_or_went_elsewhere_is_left(port: int, live: set[Flow], left: list[bytes]) -> None:
    """By the socket at our end of it."""
    names = (decode_attributes(name[4:])[1] for name in find_stale(ENTRIES, {port}, live))
    assert [flow.src for name in names if (flow := decode_tuple(name))] == left


def test_what_was_dialled_there_was_not_redirected() -> None:
    """A call to the same port of another host."""
    entry = bytes.fromhex(ANSWER)
    original = decode_attributes(entry[4:])[1]
    assert [*find_stale([entry], {81}, ())] == []
    straight = entry.replace(bytes.fromhex("060002003a990000"), bytes.fromhex("0600020000510000"))  # the answer comes from 81
    straight = straight.replace(bytes.fromhex("080001007f000001"), bytes.fromhex("080001000a5a0102"))  # of the one that was called
    straight = straight.replace(bytes.fromhex("0600030057520000"), bytes.fromhex("060003009c400000"))
    assert decode_attributes(straight[4:])[1] == original
    assert [*find_stale([straight], {81}, ())] == []


@pytest.mark.parametrize("size", range(0, len(ENTRIES[0]), 7))
def test_a_cut_entry_is_left(size: int) -> None:
    """Or named as it would be whole."""
    assert {name[:8] for name in find_stale([ENTRIES[0][:size]], {15001}, ())} <= {name[:8] for name in find_stale(ENTRIES, {15001}, ())}
