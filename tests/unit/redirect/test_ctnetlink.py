"""Entries of connection tracking, with bytes that a kernel (6.18) sent and took."""

from redirect.ctnetlink import ORIGINAL, REPLY, decode_entry, encode_name
from redirect.flow import Flow
from tests.unit.nodeagent.process import test_conntrack as kernel

FLOW = Flow(kernel.OWN, 40000, kernel.REMOTE, 81)


def test_an_entry_is_named_by_either_direction() -> None:
    """In the form in which the kernel took it; the other one differs in its kind and its flow alone."""
    assert encode_name(REPLY, kernel.REPLY).hex() == kernel.QUERY
    named = encode_name(ORIGINAL, kernel.REPLY).hex()
    assert [at for at, (one, other) in enumerate(zip(named, kernel.QUERY, strict=True)) if one != other] == [13]


def test_an_entry_has_both_directions_and_a_number() -> None:
    """Of one that is cut off, what is whole."""
    entry = bytes.fromhex(kernel.ANSWER)
    original, reply, number = decode_entry(entry)
    assert (original, reply, len(number)) == (FLOW, kernel.REPLY, 4)
    assert decode_entry(entry[:80]) == (FLOW, None, b"")
    assert decode_entry(b"") == (None, None, b"")
