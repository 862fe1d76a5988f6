"""Netlink messages: attributes, the one kind of request, answers."""

import errno
import struct

import pytest

from nodeagent.process.netlink import (
    NetlinkError,
    StaleAnswer,
    decode_answer,
    decode_attributes,
    encode_attribute,
    encode_request,
)


def answer(kind: int, sequence: int, body: bytes) -> bytes:
    """A message of the kernel."""
    return struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 0) + body


def test_attributes_are_padded_and_read_back() -> None:
    """Type bits for "nested" and byte order are no part of the type."""
    data = encode_attribute(1, b"abc") + encode_attribute(2 | 0x8000, b"") + encode_attribute(3, b"12345678")
    assert len(data) == 8 + 4 + 12
    assert decode_attributes(data) == {1: b"abc", 2: b"", 3: b"12345678"}


@pytest.mark.parametrize("data", [b"", b"\x04", struct.pack("=HH", 3, 1), struct.pack("=HH", 9, 1) + b"abc", b"\0" * 64])
def test_a_malformed_attribute_ends_the_list(data: bytes) -> None:
    """It neither raises nor loops."""
    assert decode_attributes(data) == {}


def test_a_request_can_never_be_a_dump() -> None:
    """Flags are REQUEST alone."""
    assert struct.unpack_from("=IHHII", encode_request(20, 7, b"xy")) == (18, 20, 1, 7, 0)


def test_an_answer_gives_its_body_and_not_found_gives_none() -> None:
    """ENOENT is an answer, not a failure."""
    assert decode_answer(answer(20, 7, b"body"), 7) == b"body"
    assert decode_answer(answer(2, 7, struct.pack("=i", -errno.ENOENT)), 7) is None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", errno.EBADMSG),
        (answer(2, 7, struct.pack("=i", -errno.EPERM)), errno.EPERM),
        (answer(2, 7, b"\0"), errno.EBADMSG),
        (answer(20, 7, b"body")[:-1], errno.EBADMSG),
        (struct.pack("=IHHII", 3, 20, 0, 7, 0), errno.EBADMSG),
    ],
)
def test_refusals_and_broken_messages_are_errors(data: bytes, code: int) -> None:
    """With the kernel's own number where it gave one."""
    with pytest.raises(NetlinkError) as caught:
        decode_answer(data, 7)
    assert caught.value.errno == code


def test_an_answer_to_another_request_is_not_taken() -> None:
    """A late answer must not name the owner of somebody else's connection."""
    with pytest.raises(StaleAnswer):
        decode_answer(answer(20, 6, b"body"), 7)
