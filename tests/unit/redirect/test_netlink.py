"""Netlink messages: attributes, listings, refusals."""

import errno
import itertools
import socket
import struct

import pytest

from redirect.netlink import (
    ask,
    decode_attributes,
    encode_attribute,
    iterate_attributes,
    open_netlink,
    order,
    split_rows,
)

ERROR, DONE = 2, 3
SOCK_DIAG, BY_FAMILY = 4, 20


def message(kind: int, body: bytes) -> bytes:
    """One netlink message, padded."""
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def test_attributes_are_padded_and_read_back() -> None:
    """Type bits for "nested" and byte order are no part of the type."""
    data = encode_attribute(1, b"abc") + encode_attribute(2 | 0x8000, b"") + encode_attribute(3, b"12345678")
    assert len(data) == 8 + 4 + 12
    assert decode_attributes(data) == {1: b"abc", 2: b"", 3: b"12345678"}


def test_a_list_keeps_all_of_one_type() -> None:
    """Where the attributes of a message would be one."""
    data = encode_attribute(1, b"abc") + encode_attribute(1, b"d")
    assert [*iterate_attributes(data)] == [(1, b"abc"), (1, b"d")]


@pytest.mark.parametrize("data", [b"", b"\x04", struct.pack("=HH", 3, 1), struct.pack("=HH", 9, 1) + b"abc", b"\0" * 64])
def test_a_malformed_attribute_ends_the_list(data: bytes) -> None:
    """It neither raises nor loops."""
    assert decode_attributes(data) == {}


def test_rows_come_several_at_once_until_the_end() -> None:
    """Each padded to four bytes."""
    assert split_rows(message(20, b"abc") + message(20, b"defg")) == ([b"abc", b"defg"], False)
    assert split_rows(message(20, b"abc") + message(DONE, struct.pack("=i", 0))) == ([b"abc"], True)
    assert split_rows(b"") == ([], False)


@pytest.mark.parametrize("kind", [ERROR, DONE])
def test_a_refusal_is_no_empty_listing(kind: int) -> None:
    """Or remove would tear connections that it does not see. Refusals come as errors and as the end of a listing."""
    with pytest.raises(OSError, match=r".") as caught:
        split_rows(message(kind, struct.pack("=i", -errno.ENOENT)))
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("length", [0, 8, 15, 1000])
def test_a_message_that_lies_about_its_length_is_an_error(length: int) -> None:
    """No endless loop, no bytes of the next message."""
    with pytest.raises(OSError, match="netlink message"):
        split_rows(struct.pack("=IHHII", length, 20, 0, 1, 0))


def test_the_kernel_is_asked_for_one_thing() -> None:
    """Its answer and its word that this was all; nothing for what it does not know; and its refusal."""
    with socket.create_server(("127.0.0.1", 0)) as server, open_netlink(SOCK_DIAG) as sock:
        port = struct.pack(">H", server.getsockname()[1])
        query = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + port + bytes(2)
        known, unknown = (query + socket.inet_aton(ip).ljust(36, b"\0") + b"\xff" * 8 for ip in ("127.0.0.1", "127.0.0.2"))
        for _ in range(2):
            found = ask(sock, BY_FAMILY, known)
            assert found
            assert found[4:6] == port
            assert ask(sock, BY_FAMILY, unknown) is None
        with pytest.raises(OSError, match=r".") as caught:
            order(sock, BY_FAMILY, query[:1])
        assert caught.value.errno == errno.EINVAL


def test_an_answer_to_an_order_that_was_given_up_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each later one would be taken for the next order's."""
    monkeypatch.setattr("redirect.netlink._sequence", itertools.count(7))
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, kernel:
        for number, code in ((6, errno.EPERM), (7, 0)):
            kernel.send(struct.pack("=IHHIIi", 20, ERROR, 0, number, 0, -code))
        order(ours, 1, b"")
        kernel.send(struct.pack("=IHHIIi", 20, ERROR, 0, 8, 0, -errno.EPERM))
        with pytest.raises(PermissionError):
            order(ours, 1, b"")
