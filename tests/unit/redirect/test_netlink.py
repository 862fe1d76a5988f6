"""Netlink messages: split, attributes both ways, refusals as errors."""

import errno
import struct

import pytest

from redirect.netlink import DUMP, ROUTE, decode_numbers, encode_numbers, exchange, split_messages

GET_RULE, NEW_RULE = 34, 32


def message(kind: int, body: bytes) -> bytes:
    """One message, padded."""
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body + bytes(-len(body) % 4)


def test_one_receive_may_hold_several_messages() -> None:
    """Each padded to four bytes."""
    assert list(split_messages(message(5, b"abc") + message(6, b""))) == [(5, b"abc"), (6, b"")]
    assert list(split_messages(b"")) == []


@pytest.mark.parametrize("length", [0, 8, 15, 1000])
def test_a_message_that_lies_about_its_length_is_an_error(length: int) -> None:
    """No endless loop, no bytes of the next message."""
    with pytest.raises(OSError, match="netlink message"):
        list(split_messages(struct.pack("=IHHII", length, 5, 0, 1, 0)))


def test_numbers_are_written_and_read_back() -> None:
    """Attributes of another size are passed over, and a malformed one ends the list."""
    numbers = {6: 1330, 10: 0x5B}
    other = struct.pack("=HH2sxx", 6, 3, b"xx")
    assert decode_numbers(encode_numbers(numbers) + other + encode_numbers({15: 133})) == numbers | {15: 133}
    assert decode_numbers(encode_numbers(numbers) + struct.pack("=HH", 2, 9) + encode_numbers({15: 133})) == numbers
    assert decode_numbers(b"") == {}


def test_the_kernel_lists_its_policy_rules() -> None:
    """Three of its own at least, to anybody."""
    rules = exchange(ROUTE, GET_RULE, DUMP, struct.pack("=BBBBBBBBI", 2, *[0] * 8))
    assert len(rules) >= 3
    assert all(len(body) > 12 for body in rules)


def test_a_refusal_is_an_error_with_its_number() -> None:
    """Family 255 is none."""
    with pytest.raises(OSError, match=r".") as caught:
        exchange(ROUTE, NEW_RULE, 0, struct.pack("=BBBBBBBBI", 255, *[0] * 8))
    assert caught.value.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EINVAL)
