"""Listening sockets: one per worker, kind and family, made and kept open here.

A worker that dies leaves its queue of connections to its successor, which gets the very same sockets.
"""

import errno
import itertools
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from nodeagent import limits
from nodeagent.errors import ConfigError
from nodeagent.process.port_holder import describe_holder
from nodeagent.wire.requests import Family, Kind

SET_NAME = "listeners-{}"
_AF: dict[Family, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
_LOOPBACK: dict[int, str] = {4: "127.0.0.1", 6: "::1"}
_ANY: dict[int, str] = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - the tunnel is what other hosts dial; who may is the mesh set's business
_TRANSPARENT: dict[int, tuple[int, int]] = {4: (socket.IPPROTO_IP, 19), 6: (socket.IPPROTO_IPV6, 75)}  # IP_TRANSPARENT, IPV6_TRANSPARENT
PORTS: dict[Kind, int] = {
    "outbound": limits.OUTBOUND_PORT,
    "inbound": limits.INBOUND_PORT,
    "tunnel": limits.TUNNEL_PORT,
}


class ListenerSocket(NamedTuple):
    """A listening socket and what it is for."""

    kind: Kind
    family: Family
    sock: socket.socket


@dataclass(frozen=True, slots=True)
class ListenerSet:
    """A worker's share of all that is listened to: one socket of each kind and family."""

    name: str
    """Under which the service manager keeps it."""
    sockets: tuple[ListenerSocket, ...]

    def close(self) -> None:
        """Closes our copies; a worker that still has its own goes on accepting."""
        for listener in self.sockets:
            listener.sock.close()

    def shut(self) -> None:
        """They listen no more, whoever has copies: what waits is reset."""
        for listener in self.sockets:
            with suppress(OSError):
                listener.sock.shutdown(socket.SHUT_RD)


def usable_families() -> tuple[Family, ...]:
    """4, and 6 where this host has IPv6 on its loopback."""
    try:
        with _socket(6) as probe:
            probe.bind((_LOOPBACK[6], 0))
    except OSError:
        return (4,)
    return (4, 6)


def bind_set(taken: Iterable[str], families: Iterable[Family]) -> ListenerSet:
    """A new set, of a name that is not taken.

    Raises:
        ConfigError: a port is taken.
        OSError: anything else.
    """
    return complete_set(ListenerSet(free_name(taken), ()), families)


def free_name(taken: Iterable[str]) -> str:
    """For another set."""
    used = frozenset(taken)
    return next(name for name in map(SET_NAME.format, itertools.count()) if name not in used)


def complete_set(partial: ListenerSet, families: Iterable[Family]) -> ListenerSet:
    """The set with a socket for all that is listened to; what it has is kept, what is not wanted is closed.

    Raises:
        ConfigError: a port is taken.
        OSError: anything else.
    """
    wanted = [(kind, family) for family in families for kind in PORTS]
    found = {(listener.kind, listener.family): listener for listener in reversed(partial.sockets)}
    bound: list[ListenerSocket] = []
    try:
        for kind, family in wanted:
            if (kind, family) not in found:
                bound.append(ListenerSocket(kind, family, _listen(kind, family)))
    except BaseException:
        ListenerSet("", tuple(bound)).close()
        raise
    kept = [listener for key in wanted if (listener := found.get(key))]
    ListenerSet("", tuple(each for each in partial.sockets if each not in kept)).close()
    whole = sorted((*kept, *bound), key=lambda each: wanted.index((each.kind, each.family)))
    return ListenerSet(partial.name, tuple(whole))


def try_listener(fd: int) -> ListenerSocket | None:
    """The listening socket that another process of ours has left, if it is one of ours, bound as we would; else it is closed."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        with suppress(OSError):
            os.close(fd)
        return None
    sock.setblocking(False)
    sock.set_inheritable(False)
    for kind in PORTS:
        for family in _AF:
            if _is_bound(sock, kind, family):
                return ListenerSocket(kind, family, sock)
    sock.close()
    return None


def _is_bound(sock: socket.socket, kind: Kind, family: Family) -> bool:
    """Whether it listens where and how a socket of that kind does."""
    try:
        return (
            (sock.family, sock.type) == (_AF[family], socket.SOCK_STREAM)
            and sock.getsockname()[:2] == ((_ANY if kind == "tunnel" else _LOOPBACK)[family], PORTS[kind])
            and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
            and (kind != "inbound" or bool(sock.getsockopt(*_TRANSPARENT[family])))
        )
    except OSError:
        return False


def check_ports_are_free(families: Iterable[Family]) -> None:
    """SO_REUSEPORT would let us share our ports with another program of root: so ask once without it.

    Raises:
        ConfigError: a port is taken; names the process where it can be seen.
    """
    for family in families:
        for kind in PORTS:
            with _socket(family) as probe, _naming_the_holder(kind, family):
                _bind(probe, kind, family)


def make_prepared_socket(family: int) -> socket.socket:
    """A socket that may bind a client's address and whose SYN brings the answers back to us."""
    prepared = _socket(family)
    try:
        prepared.setsockopt(*_TRANSPARENT[family], 1)
        prepared.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, limits.UPSTREAM_MARK)
    except OSError:
        prepared.close()
        raise
    return prepared


def _listen(kind: Kind, family: Family) -> socket.socket:
    sock = _socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kind == "inbound":
            sock.setsockopt(*_TRANSPARENT[family], 1)
        with _naming_the_holder(kind, family):
            _bind(sock, kind, family)
            sock.listen(limits.ACCEPT_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _socket(family: int) -> socket.socket:
    return socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def _bind(sock: socket.socket, kind: Kind, family: Family) -> None:
    # Connections of an agent that has just ended (TIME_WAIT) are no reason to refuse.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(((_ANY if kind == "tunnel" else _LOOPBACK)[family], PORTS[kind]))


@contextmanager
def _naming_the_holder(kind: Kind, family: Family) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        holder = describe_holder(PORTS[kind])
        raise ConfigError(f"port {PORTS[kind]} ({kind}, IPv{family}) is taken by {holder}; end it first") from error
