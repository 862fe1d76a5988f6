"""Netlink messages: the one kind of request, answers."""

import errno
import struct

import pytest

from nodeagent.process.netlink import NetlinkError, StaleAnswer, decode_answer, encode_request


def answer(kind: int, sequence: int, body: bytes) -> bytes:
    """A message of the kernel."""
    return struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 0) + body


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
