"""What a TLS ClientHello asks for, read before TLS starts: server name, protocols, versions.

The bytes are peeked, never consumed: the name chooses the certificate, and a name that is unknown here is refused before
any cryptography is done for a stranger. Source: RFC 8446, 4.1.2, 4.2 and 5.1; RFC 6066, 3; RFC 7301, 3.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent import limits

TLS_1_3 = 0x0304

ALERT_HANDSHAKE_FAILURE = 40
ALERT_PROTOCOL_VERSION = 70
ALERT_UNRECOGNIZED_NAME = 112
ALERT_NO_APPLICATION_PROTOCOL = 120

_RECORD_HEAD = 5
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME, _ALPN, _SUPPORTED_VERSIONS = 0, 16, 43


class HelloError(ValueError):
    """The bytes are not the ClientHello of an agent."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """The three things that an agent looks at."""

    server_name: str
    protocols: tuple[bytes, ...]
    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NeedMore:
    """The record is not complete: look again when `total` bytes have come."""

    total: int


def read_client_hello(head: bytes) -> ClientHello | NeedMore:
    """The hello in the first bytes of a connection.

    head: all bytes that have come so far, at most one record is looked at, none is removed.

    Raises:
        HelloError: no ClientHello, one that spans records, or larger than a record may be.
    """
    if len(head) < _RECORD_HEAD:
        if head and head[0] != _HANDSHAKE:
            raise HelloError("not TLS")
        return NeedMore(_RECORD_HEAD)
    if head[0] != _HANDSHAKE or head[1] != 3:
        raise HelloError("not TLS")
    total = _RECORD_HEAD + int.from_bytes(head[3:5], "big")
    if total > limits.HELLO_BYTES:
        raise HelloError(f"a TLS record of {total} bytes")
    if len(head) < total:
        return NeedMore(total)
    return _read_handshake(_Reader(head[_RECORD_HEAD:total]))


def alert(description: int) -> bytes:
    """A fatal alert in clear, for a peer that is refused before TLS starts. Source: RFC 8446, 6."""
    return bytes((21, 3, 3, 0, 2, 2, description))


class _Reader:
    """Takes fields off the front of some bytes; running out of them is a HelloError."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bool__(self) -> bool:
        return bool(self._data)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        if len(self._data) < size:
            raise HelloError("a ClientHello that ends early")
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def vector(self, size: int) -> "_Reader":
        """A vector whose length stands in `size` bytes before it."""
        return _Reader(self.take(self.number(size)))


def _read_handshake(record: _Reader) -> ClientHello:
    if record.number(1) != _CLIENT_HELLO:
        raise HelloError("a TLS handshake that does not begin with ClientHello")
    hello = record.vector(3)
    hello.take(2 + 32)  # legacy version, random
    hello.vector(1)  # legacy session id
    hello.vector(2)  # cipher suites
    hello.vector(1)  # legacy compression methods
    found = dict(_extensions(hello.vector(2))) if hello else {}
    return ClientHello(
        server_name=_server_name(found.get(_SERVER_NAME, b"")),
        protocols=tuple(_protocols(found.get(_ALPN, b""))),
        versions=tuple(_versions(found.get(_SUPPORTED_VERSIONS, b""))),
    )


def _extensions(block: _Reader) -> Iterator[tuple[int, bytes]]:
    seen: set[int] = set()
    while block:
        kind = block.number(2)
        if kind in seen:
            raise HelloError(f"extension {kind} twice")
        seen.add(kind)
        yield kind, block.take(block.number(2))


def _server_name(extension: bytes) -> str:
    if not extension:
        return ""
    names = _Reader(extension).vector(2)
    if names.number(1) != 0:
        raise HelloError("a server name that is not a host name")
    name = names.take(names.number(2))
    if len(name) > limits.SERVER_NAME_BYTES:
        raise HelloError(f"a server name of {len(name)} bytes")
    if names or not name.isascii() or not name.decode("ascii").isprintable():
        raise HelloError("more than one server name, or one that is not printable ASCII")
    return name.decode("ascii").lower()


def _protocols(extension: bytes) -> Iterator[bytes]:
    block = _Reader(extension).vector(2) if extension else _Reader(b"")
    while block:
        yield block.take(block.number(1))


def _versions(extension: bytes) -> Iterator[int]:
    block = _Reader(extension).vector(1) if extension else _Reader(b"")
    while block:
        yield block.number(2)
