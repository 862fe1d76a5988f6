"""Listening sockets: one per worker, kind and family, made and kept open here.

A worker that dies leaves its queue of connections to its successor, which gets the very same sockets.
"""

import errno
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from nodeagent import limits
from nodeagent.errors import ConfigError
from nodeagent.process.port_holder import describe_holder

Kind = Literal["outbound", "inbound", "tunnel"]
Family = Literal[4, 6]

_AF = {4: socket.AF_INET, 6: socket.AF_INET6}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - the tunnel is what other hosts dial; who may is the mesh set's business
_TRANSPARENT = {4: (socket.IPPROTO_IP, 19), 6: (socket.IPPROTO_IPV6, 75)}  # IP_TRANSPARENT, IPV6_TRANSPARENT
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


def usable_families() -> tuple[Family, ...]:
    """4, and 6 where this host has IPv6 on its loopback."""
    try:
        with _socket(6) as probe:
            probe.bind((_LOOPBACK[6], 0))
    except OSError:
        return (4,)
    return (4, 6)


def bind_listeners(families: Iterable[Family]) -> tuple[ListenerSocket, ...]:
    """A worker's set of listening sockets.

    Raises:
        ConfigError: a port is taken.
        OSError: anything else.
    """
    return tuple(ListenerSocket(kind, family, _listen(kind, family)) for family in families for kind in PORTS)


def check_ports_are_free(families: Iterable[Family]) -> None:
    """SO_REUSEPORT would let us share our ports with another program of root: so ask once without it.

    Raises:
        ConfigError: a port is taken; names the process where it can be seen.
    """
    for family in families:
        for kind in PORTS:
            with _socket(family) as probe, _naming_the_holder(kind, family):
                _bind(probe, kind, family)


def close_listeners(listeners: Iterable[ListenerSocket]) -> None:
    """Closes our copies; a worker that still has its own goes on accepting."""
    for listener in listeners:
        listener.sock.close()


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
    return socket.socket(_AF[family], socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


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
