"""The ends of a connection, as the kernel writes them."""

import struct

import pytest

from redirect.flow import Flow, decode_tuple, encode_tuple, ends_of

FOUR, OTHER = b"\x0a\x5a\1\1", b"\x0a\x5a\1\2"
SIX = bytes.fromhex("fd910000000000000000000000000001")


@pytest.mark.parametrize("flow", [Flow(FOUR, 40000, OTHER, 80), Flow(SIX, 1, SIX, 65535)])
def test_a_tuple_is_read_as_it_was_written(flow: Flow) -> None:
    """Both families, all bits of a port; turned twice it is the same."""
    assert decode_tuple(encode_tuple(flow)) == flow
    assert flow.turned.turned == flow != flow.turned


@pytest.mark.parametrize("size", range(48))
def test_a_cut_tuple_is_none(size: int) -> None:
    """A whole one has 48 bytes."""
    whole = encode_tuple(Flow(FOUR, 40000, OTHER, 80))
    assert len(whole) == 48
    assert decode_tuple(whole[:size]) is None


def test_a_row_has_its_local_end_first_and_mapped_addresses_are_ipv4() -> None:
    """An IPv6 socket that talks IPv4."""
    mapped = bytes(10) + b"\xff\xff"

    def row(family: int, src: bytes, dst: bytes) -> bytes:
        return struct.pack(">BBBBHH16s16s", family, 1, 0, 0, 40000, 80, src, dst)

    assert ends_of(row(2, FOUR, OTHER)) == ends_of(row(10, mapped + FOUR, mapped + OTHER)) == Flow(FOUR, 40000, OTHER, 80)
    assert ends_of(row(10, SIX, SIX)) == Flow(SIX, 40000, SIX, 80)
