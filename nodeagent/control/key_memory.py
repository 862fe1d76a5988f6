"""Certificates and roots for the control process after this one: in memory that nobody can change, held by the supervisor.

A restart needs no CA by it. The supervisor passes it on, and keeps it on disk where that is wanted, without looking into it.
"""

import array
import errno
import fcntl
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from certs.errors import CertificateError
from certs.svid import Svid
from nodeagent import limits
from nodeagent.control.trust import Trust, parse_roots
from nodeagent.errors import CatalogError
from nodeagent.wire.key_memory import KEYS, SEALS

VERSION = 1


class KeptSvid(msgspec.Struct, frozen=True):
    """One certificate with its key."""

    service: str
    chain_pem: str
    key_pem: str

    def __repr__(self) -> str:
        return f"KeptSvid({self.service!r})"


class KeptKeys(msgspec.Struct, frozen=True):
    """All of it."""

    version: int
    roots: bytes
    """The catalog's answer about them."""
    svids: tuple[KeptSvid, ...]


class KeyMemoryError(Exception):
    """It cannot be used: another version, or garbage."""


def encode_keys(roots: bytes, svids: tuple[KeptSvid, ...]) -> bytes:
    """The content of the memory."""
    return msgspec.msgpack.encode(KeptKeys(VERSION, roots, svids))


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier control process knew."""

    roots: bytes
    trust: Trust
    """Which `roots` say."""
    svids: Mapping[str, Svid]
    """By service."""


def decode_keys(data: bytes) -> Remembered:
    """The roots, and certificates by service; what has ended or was revoked is for the caller to find out.

    Raises:
        KeyMemoryError: another version, or nothing that may be believed.
    """
    try:
        kept = msgspec.msgpack.decode(data, type=KeptKeys)
        if kept.version != VERSION:
            raise KeyMemoryError(f"version {kept.version}; this control knows {VERSION}")
        svids = {each.service: Svid.from_pem(each.chain_pem, each.key_pem) for each in kept.svids}
        return Remembered(kept.roots, parse_roots(kept.roots), svids)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, CatalogError, CertificateError) as error:
        raise KeyMemoryError(str(error)) from error


def read_keys(fd: int) -> bytes:
    """What a predecessor has kept; the descriptor is closed."""
    try:
        return os.pread(fd, limits.KEYS_BYTES, 0)
    finally:
        os.close(fd)


def hand_keys(supervisor: socket.socket, content: bytes) -> None:
    """Has the supervisor hold it instead of what it held.

    Raises:
        OSError: no descriptor or memory is left, it is more than the supervisor takes, or that one is gone or too busy.
    """
    if len(content) > limits.KEYS_BYTES:
        raise OSError(errno.EFBIG, f"{len(content)} bytes of keys, more than {limits.KEYS_BYTES}")
    memory = os.memfd_create("nodeagent-keys", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(memory, content)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
        supervisor.sendmsg([KEYS], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]))])
    finally:
        os.close(memory)
