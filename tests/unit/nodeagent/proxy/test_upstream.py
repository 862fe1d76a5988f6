"""Connections that the agent opens itself."""

import asyncio
import socket
from collections import deque
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.errors import LimitReached, UpstreamRefused
from nodeagent.model.address import Address
from nodeagent.proxy.ends import LINGER_RESET
from nodeagent.proxy.upstream import PortPool, connect_direct, connect_preserving, family_of, is_local, set_options
from tests.support.twohosts import listening, run


def test_local_addresses_are_known_by_binding() -> None:
    """Loopback is here, a documentation address is not."""
    assert is_local("127.0.0.1")
    assert is_local("::1")
    assert not is_local("192.0.2.1")
    assert not is_local("2001:db8::1")


def test_families() -> None:
    """4 or 6."""
    assert (family_of("10.0.0.1"), family_of("fd77::1")) == (4, 6)


def test_a_direct_connection_comes_from_the_client_s_own_address() -> None:
    """Which is local: no privilege is needed."""

    async def work() -> None:
        app = listening("127.0.0.1")
        end = await connect_direct(Address(*app.getsockname()), "127.0.0.9", PortPool())
        conn, addr = app.accept()
        assert addr[0] == "127.0.0.9"
        low, high = limits.UPSTREAM_PORTS
        assert low <= addr[1] <= high, "not a port that conntrack may know as a client's"
        end.reset()
        conn.close()
        app.close()

    run(work)


def test_whoever_closes_what_is_dialled_or_accepted_makes_a_reset() -> None:
    """Until an orderly end takes that off: a worker that is killed leaves no half answer that looks whole."""

    async def work() -> None:
        app, own = listening("127.0.0.1"), listening("127.0.0.1")
        end = await connect_direct(Address(*app.getsockname()), "", PortPool())
        set_options(own)
        client = socket.create_connection(own.getsockname())
        conn, _ = own.accept()
        assert {sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) for sock in (end.sock, conn)} == {LINGER_RESET}
        conn.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        end.reset()
        for sock in (app, own, client):
            sock.close()

    run(work)


def test_a_dead_end_is_asked_for_before_conntrack_forgets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On what is dialled; what is accepted inherits it."""
    monkeypatch.setattr(limits, "KEEPALIVE_S", 7)
    with socket.socket() as sock:
        set_options(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert [sock.getsockopt(socket.IPPROTO_TCP, each) for each in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)] == [7, 7]


def test_urgent_data_stays_among_the_rest_on_both_sides() -> None:
    """What is dialled and what a listener accepts reads it in its place: none is lost."""

    async def work() -> None:
        app, own = listening("127.0.0.1"), listening("127.0.0.1")
        end = await connect_direct(Address(*app.getsockname()), "", PortPool())
        set_options(own)
        client = socket.create_connection(own.getsockname())
        conn, _ = own.accept()
        client.send(b"!", socket.MSG_OOB)
        assert conn.recv(1) == b"!"
        assert end.sock.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE) == 1
        end.reset()
        for sock in (app, own, client, conn):
            sock.close()

    run(work)


def test_a_dead_port_is_refused_with_a_cure() -> None:
    """Not an OSError."""

    async def work() -> None:
        app = listening("127.0.0.1")
        address = Address(*app.getsockname())
        app.close()
        with pytest.raises(UpstreamRefused, match="is the service running"):
            await connect_direct(address, "", PortPool())

    run(work)


def holding(address: Address) -> socket.socket:
    """A connection whose port is taken for another one to `address`."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    holder.connect(address)
    return holder


@pytest.mark.parametrize("is_direct", [False, True])
def test_another_port_is_tried_where_one_is_taken(*, is_direct: bool) -> None:
    """A client's live connection may hold the very same tuple."""

    async def work() -> None:
        app = listening("127.0.0.1")
        address = Address(*app.getsockname())
        holder = holding(address)
        taken = holder.getsockname()[1]
        free = listening("127.0.0.1")
        other = free.getsockname()[1]
        free.close()
        ports = Ports(taken, other)
        if is_direct:
            end = await connect_direct(address, "127.0.0.1", ports)
        else:
            end = await connect_preserving(address, "127.0.0.1", fresh, ports)
        assert end.sock.getsockname()[1] == other
        end.reset()
        for sock in (holder, app):
            sock.close()
        await asyncio.sleep(0)

    async def fresh(family: int) -> socket.socket:
        assert family == 4
        return socket.socket()

    run(work)


class Ports(PortPool):
    """Only these, in this order."""

    def __init__(self, *ports: int) -> None:
        super().__init__()
        self._free = deque(ports)


def test_a_port_rests_as_long_as_there_are_others() -> None:
    """Its last connection may still be in TIME_WAIT."""
    ports = Ports(1, 2, 3)
    first = ports.take()
    ports.give_back(first)
    assert [ports.take() for _ in range(3)] == [2, 3, 1]
    with pytest.raises(LimitReached, match="in use"):
        ports.take()


def test_a_port_is_given_back_when_its_connection_ends() -> None:
    """Or could not be made."""

    async def work() -> None:
        app = listening("127.0.0.1")
        address = Address(*app.getsockname())
        ports = PortPool()
        end = await connect_preserving(address, "127.0.0.1", prepared, ports)
        port = end.sock.getsockname()[1]
        assert port not in ports._free
        end.reset()
        while port not in ports._free:
            await asyncio.sleep(0)
        app.close()
        with pytest.raises(UpstreamRefused):
            await connect_preserving(address, "127.0.0.1", prepared, ports)
        low, high = limits.UPSTREAM_PORTS
        assert sorted(ports._free) == list(range(low, high + 1))

    async def prepared(family: int) -> socket.socket:
        assert family == 4
        return socket.socket()

    run(work)


def test_upstream_ports_are_disjoint_from_the_kernel_s() -> None:
    """A source-preserved connection must never meet an ordinary one."""
    low, high = limits.UPSTREAM_PORTS
    kernel_low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert low < high < kernel_low


def test_ports_that_are_all_taken_are_given_up_after_some_tries() -> None:
    """Each try costs a prepared socket."""
    made = 0

    async def work() -> None:
        app = listening("127.0.0.1")
        address = Address(*app.getsockname())
        holder = holding(address)
        with pytest.raises(UpstreamRefused, match="no free port"):
            await connect_preserving(address, "127.0.0.1", prepared, Ports(holder.getsockname()[1]))
        for sock in (holder, app):
            sock.close()

    async def prepared(family: int) -> socket.socket:
        nonlocal made
        made += 1
        return socket.socket()

    run(work)
    assert made == limits.LOCAL_CONNECT_TRIES
