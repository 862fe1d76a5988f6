"""Whether tables of iptables are as they were, at no cost: their bytes as the kernel gives them, without the counters.

python-iptables needs a process and 0.4 s for a look; the supervisor looks every few seconds.
"""

import ctypes
import hashlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from redirect.errors import RedirectError
from redirect.iptables_lines import TABLES
from redirect.rules import Family

NAMES: dict[Family, Path] = {
    4: Path("/proc/thread-self/net/ip_tables_names"),
    6: Path("/proc/thread-self/net/ip6_tables_names"),
}
"""Which tables there are in the network namespace of the calling thread. To open another one is to make it."""

_AF = {4: socket.AF_INET, 6: socket.AF_INET6}
_LEVEL = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}
_GET_INFO, _GET_ENTRIES = 64, 65  # the same numbers for both families
_INFO = struct.Struct("=32s13I")  # name, hooks, 5 entries and 5 underflows of hooks, number of rules, bytes of them
_ASKED = struct.Struct("=32sI4x")  # name, bytes; then the rules
_NEXT = {4: 90, 6: 142}  # where in struct ipt_entry, ip6t_entry the u16 is that leads to the next
_COUNTERS = {4: slice(96, 112), 6: slice(152, 168)}
_libc = ctypes.CDLL(None, use_errno=True)


def table_names(family: Family) -> tuple[str, ...]:
    """Those of the tables that we use that somebody has opened."""
    try:
        there = NAMES[family].read_text(encoding="ascii").split()
    except FileNotFoundError:
        return ()
    return tuple(name for name in TABLES if name in there)


def fingerprint(family: Family) -> bytes:
    """Differs when a rule, a chain or a policy of a table does.

    Raises:
        RedirectError: the kernel does not give them.
    """
    digest = hashlib.sha256()
    try:
        with socket.socket(_AF[family], socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as sock:
            for name in table_names(family):
                digest.update(name.encode())
                for entry in entries_in(_read(sock, family, name), family):
                    digest.update(entry)
    except OSError as error:
        raise RedirectError(f"iptables of IPv{family} cannot be read: {error.strerror}; intercept needs root") from error
    return digest.digest()


def entries_in(rules: bytes, family: Family) -> Iterator[bytes]:
    """Each rule's bytes with its counters at zero."""
    while rules:
        (size,) = struct.unpack_from("=H", rules, _NEXT[family])
        entry = bytearray(rules[:size])
        entry[_COUNTERS[family]] = bytes(16)
        yield bytes(entry)
        rules = rules[size:] if size else b""


def _read(sock: socket.socket, family: Family, name: str) -> bytes:
    """The rules of a table; changed between the two questions, the second is refused and both are asked again."""
    while True:
        size = _INFO.unpack(_ask(sock, family, _GET_INFO, _INFO.pack(name.encode(), *[0] * 13)))[-1]
        try:
            asked = _ASKED.pack(name.encode(), size) + bytes(size)
            return _ask(sock, family, _GET_ENTRIES, asked)[_ASKED.size :]
        except BlockingIOError:  # EAGAIN
            continue


def _ask(sock: socket.socket, family: Family, option: int, question: bytes) -> bytes:
    """getsockopt(2) with a question in the buffer, which Python's own does not pass on."""
    buffer = ctypes.create_string_buffer(question, len(question))
    size = ctypes.c_uint32(len(question))
    if _libc.getsockopt(sock.fileno(), _LEVEL[family], option, buffer, ctypes.byref(size)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return buffer.raw[: size.value]
