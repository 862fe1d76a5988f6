"""Plain TCP connections that the agent opens: to applications of this host, and directly where no tunnel is due."""

import asyncio
import errno
import functools
import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable

from nodeagent import limits
from nodeagent.errors import LimitReached, UpstreamRefused, UpstreamTimeout
from nodeagent.model.address import Address
from nodeagent.proxy.dial import dial
from nodeagent.proxy.ends import LINGER_RESET, TcpEnd

SocketSource = Callable[[int], Awaitable[socket.socket]]
"""Gives a prepared socket for IP family 4 or 6."""

_TUPLE_TAKEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)


def family_of(ip: str) -> int:
    """4 or 6."""
    return 6 if ":" in ip else 4


def is_local(ip: str) -> bool:
    """Whether `ip` is an address of this host: only such an address can be bound without privilege."""
    with new_socket(ip) as probe:
        try:
            probe.bind((ip, 0))
        except OSError:
            return False
    return True


async def connect_direct(address: Address, client_ip: str, ports: "PortPool") -> TcpEnd:
    """A connection to `address` as the client would have made it: from its own, local address if one is given.

    Not from a port of the kernel's choice: conntrack remembers for two minutes that a client's call from such a port to this
    very address was redirected, and would redirect this one too, back to us.

    Raises:
        UpstreamRefused, UpstreamTimeout, LimitReached: with the address and the likely cure.
    """
    source = client_ip if client_ip and _same_family(client_ip, address.ip) else ""
    for attempt in range(limits.LOCAL_CONNECT_TRIES):
        try:
            return await _connect_from(new_socket(address.ip), source, address, limits.CONNECT_S, ports)
        except (_TupleTaken, OSError) as error:
            if attempt + 1 == limits.LOCAL_CONNECT_TRIES:
                raise _explain(error, address) from error
    raise AssertionError  # the loop returns or raises


async def connect_preserving(address: Address, client_ip: str, prepared: SocketSource, ports: "PortPool") -> TcpEnd:
    """A connection to a local application that sees the remote client's address; answers come back through loopback.

    The port is not the client's own: a live connection of the client may have the same tuple. It comes from a range
    that the kernel uses for nobody else, and another one is tried if it is taken or silent.

    Raises:
        UpstreamRefused, UpstreamTimeout, LimitReached: with the address and the likely cure.
    """
    for attempt in range(limits.LOCAL_CONNECT_TRIES):
        sock = await prepared(family_of(address.ip))
        try:
            return await _connect_from(sock, client_ip, address, limits.LOCAL_CONNECT_S, ports)
        except (_TupleTaken, UpstreamTimeout, OSError) as error:
            if attempt + 1 == limits.LOCAL_CONNECT_TRIES:
                raise _explain(error, address) from error
    raise AssertionError  # the loop returns or raises


class PortPool:
    """Ports for connections to applications: the one that was given back longest ago comes first. Owned by a worker.

    In random order at first, as other workers take from the same range; what they hold is met by chance and skipped.
    """

    def __init__(self) -> None:
        low, high = limits.UPSTREAM_PORTS
        self._free = deque(random.sample(range(low, high + 1), high + 1 - low))

    def take(self) -> int:
        """A port that this worker does not use.

        Raises:
            LimitReached: it uses all of them.
        """
        if not self._free:
            raise LimitReached(f"all {limits.UPSTREAM_PORTS} ports for connections to applications are in use")
        return self._free.popleft()

    def give_back(self, port: int) -> None:
        """It is free again, and will rest as long as there are others."""
        self._free.append(port)


class _TupleTaken(Exception):
    """The kernel has a connection with this very tuple: another port may do."""


async def _connect_from(sock: socket.socket, ip: str, address: Address, timeout_s: float, ports: "PortPool") -> TcpEnd:
    """From `ip` (empty: any of ours) and a port of `ports`, which gets it back when the connection has ended or failed."""
    port = 0
    try:
        port = ports.take()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((ip, port))
        end = await _connect(sock, address, timeout_s)
    except BaseException:
        sock.close()
        if port:
            ports.give_back(port)
        raise
    end.on_closed = functools.partial(ports.give_back, port)
    return end


async def _connect(sock: socket.socket, address: Address, timeout_s: float) -> TcpEnd:
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    set_options(sock)
    try:
        async with asyncio.timeout(timeout_s):
            await dial(sock, address)
    except TimeoutError:
        raise UpstreamTimeout(f"{address} did not answer within {timeout_s:g} s") from None
    except OSError as error:
        if error.errno in _TUPLE_TAKEN:
            raise _TupleTaken from error
        raise UpstreamRefused(f"{address}: {error.strerror}; is the service running and listening there?") from error
    _, end = await loop.create_connection(TcpEnd, sock=sock)
    return end


def _explain(error: BaseException, address: Address) -> BaseException:
    if isinstance(error, (_TupleTaken, OSError)):
        return UpstreamRefused(f"{address}: no free port to connect from")
    return error


def new_socket(ip: str) -> socket.socket:
    """A socket for connections to or from `ip`.

    Raises:
        LimitReached: this process has as many descriptors as it may.
    """
    try:
        return socket.socket(_af(ip), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise LimitReached(f"no socket for a connection to {ip}: {error.strerror}; raise host.workers") from error


def set_options(sock: socket.socket) -> None:
    """What every connection with an application has; what a listener accepts inherits it.

    Keep-alive finds dead ends of idle connections. Urgent data stay in their place among the others, as RFC 6093 wants
    it: the kernel would take them out, and nobody would deliver them. Until both directions have ended (`TcpEnd`), a close is
    a reset, whoever closes: if this process dies it is the kernel, and what an application has got must not look whole.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, limits.KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, limits.KEEPALIVE_S)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)


def _af(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def _same_family(one: str, other: str) -> bool:
    return (":" in one) == (":" in other)
