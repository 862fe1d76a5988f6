"""Netlink in the little that this package needs: one request, all its answers. Blocks for microseconds.

Not pyroute2: its synchronous calls run an event loop of their own and so fail inside a running one, where the
supervisor verifies, and it would add 22 MiB to a process that runs as root.
"""

import os
import socket
import struct
from collections.abc import Iterator, Mapping

ROUTE, SOCK_DIAG = 0, 4  # netlink protocols
CREATE = 0x400 | 0x200  # NLM_F_CREATE | NLM_F_EXCL: not there yet
DUMP = 0x300
_REQUEST, _ACK = 0x1, 0x4
_ERROR, _DONE = 2, 3
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12  # the kernel filters dumps by what the header says
_HEAD = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_CODE = struct.Struct("=i")
_ANSWER_BYTES = 65_536  # the kernel sends at most 32 KiB of a dump at once
_ANSWER_S = 5.0  # it answers within the call that sends; this only bounds a defect
_SEQUENCE = 1


def exchange(protocol: int, kind: int, flags: int, body: bytes) -> list[bytes]:
    """The bodies of all answers to one request; none if it was only acknowledged.

    Raises:
        OSError: the kernel refused; errno says why.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as sock:
        sock.settimeout(_ANSWER_S)
        sock.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
        flags |= _REQUEST if flags & DUMP == DUMP else _REQUEST | _ACK
        sock.send(_HEAD.pack(_HEAD.size + len(body), kind, flags, _SEQUENCE, 0) + body)
        bodies: list[bytes] = []
        while True:
            for answer, payload in split_messages(sock.recv(_ANSWER_BYTES)):
                if answer in (_ERROR, _DONE):
                    _raise_refusal(payload)
                    return bodies
                bodies.append(payload)


def split_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each message in what one receive gave."""
    while len(data) >= _HEAD.size:
        length, kind = _HEAD.unpack_from(data)[:2]
        if not _HEAD.size <= length <= len(data):
            raise OSError(f"a netlink message of {len(data)} bytes that says it has {length}")
        yield kind, data[_HEAD.size : length]
        data = data[(length + 3) & ~3 :]


def encode_numbers(attributes: Mapping[int, int]) -> bytes:
    """Attributes that are 32-bit numbers."""
    return b"".join(_ATTRIBUTE.pack(8, kind) + struct.pack("=I", value) for kind, value in attributes.items())


def decode_numbers(data: bytes) -> dict[int, int]:
    """Those attributes that are 32-bit numbers, by type."""
    found: dict[int, int] = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            break
        if length == 8:
            found[kind] = struct.unpack_from("=I", data, _ATTRIBUTE.size)[0]
        data = data[(length + 3) & ~3 :]
    return found


def _raise_refusal(payload: bytes) -> None:
    """An acknowledgement, or the end of a dump, carries zero or the negative errno."""
    code = -_CODE.unpack_from(payload)[0] if len(payload) >= _CODE.size else 0
    if code:
        raise OSError(code, os.strerror(code))
