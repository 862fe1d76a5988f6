"""Listening and prepared sockets, on this machine's own loopback."""

import os
import socket
import struct

import pytest

from nodeagent import limits
from nodeagent.errors import ConfigError
from nodeagent.process import listeners
from nodeagent.process.listeners import (
    ListenerSet,
    bind_set,
    check_ports_are_free,
    complete_set,
    free_name,
    make_prepared_socket,
    try_listener,
    usable_families,
)
from nodeagent.process.preflight import backlog_limit
from nodeagent.wire.requests import Family

SO_MARK, IP_TRANSPARENT, IPV6_TRANSPARENT = 36, 19, 75


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Ports that are free just now, so that a running agent is not in the way."""
    found: dict[str, int] = {}
    for kind in listeners.PORTS:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            found[kind] = probe.getsockname()[1]
    monkeypatch.setattr(listeners, "PORTS", found)
    return found


def test_each_worker_gets_a_socket_per_kind_and_family(ports: dict[str, int]) -> None:
    """Outbound and inbound on loopback only, the tunnel on all addresses; two workers share every port."""
    families = usable_families()
    first, second = bind_set((), families), bind_set(["listeners-0"], families)
    try:
        assert [(listener.kind, listener.family) for listener in first.sockets] == [(k, f) for f in families for k in ports]
        loopback: dict[Family, str] = {4: "127.0.0.1", 6: "::1"}
        anywhere: dict[Family, str] = {4: "0.0.0.0", 6: "::"}
        for kind, family, sock in (*first.sockets, *second.sockets):
            ip = anywhere[family] if kind == "tunnel" else loopback[family]
            assert sock.getsockname()[:2] == (ip, ports[kind])
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            assert sock.gettimeout() == 0
            assert not os.get_inheritable(sock.fileno())
            option = (socket.IPPROTO_IP, IP_TRANSPARENT) if family == 4 else (socket.IPPROTO_IPV6, IPV6_TRANSPARENT)
            assert sock.getsockopt(*option) == (kind == "inbound")
    finally:
        first.close()
        second.close()
    assert (first.name, second.name) == ("listeners-0", "listeners-1")


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_somebody_listens_on_is_refused_by_name(ports: dict[str, int], *, shared: bool) -> None:
    """Also where that program would share it with us."""
    with socket.socket() as other:
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", ports["inbound"]))
        other.listen()
        with pytest.raises(ConfigError, match=rf"port {ports['inbound']} \(inbound, IPv4\) is taken by process {os.getpid()} "):
            check_ports_are_free((4,))
    check_ports_are_free((4,))


@pytest.mark.parametrize("family", [4, 6])
def test_a_prepared_socket_may_bind_a_foreign_address_and_is_marked(family: int) -> None:
    """What the worker may not do itself."""
    option = (socket.IPPROTO_IP, IP_TRANSPARENT) if family == 4 else (socket.IPPROTO_IPV6, IPV6_TRANSPARENT)
    with make_prepared_socket(family) as sock:
        assert sock.getsockopt(*option) == 1
        assert sock.getsockopt(socket.SOL_SOCKET, SO_MARK) == limits.UPSTREAM_MARK
        assert sock.gettimeout() == 0
        sock.bind(("10.90.7.7", 0) if family == 4 else ("fd90::7", 0))


def test_the_kernel_keeps_as_many_who_wait_as_it_may(ports: dict[str, int]) -> None:
    """A worker that dies finds them waiting. The second of these two figures of TCP_INFO is the length that was asked for."""
    bound = bind_set((), (4,))
    try:
        infos = [listener.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104) for listener in bound.sockets]
        most = min(limits.ACCEPT_BACKLOG, backlog_limit())
        assert {struct.unpack_from("=II", info, 24) for info in infos} == {(0, most)}
    finally:
        bound.close()


def test_a_set_is_taken_over_as_it_is_and_completed(ports: dict[str, int]) -> None:
    """What is there is kept, what is missing is bound, what is there twice, or not wanted any more, is closed."""
    del ports
    whole, other = bind_set((), (4,)), bind_set((), (4,))
    copies = [listener.sock.dup().detach() for listener in (*whole.sockets[1:], *other.sockets)]
    taken = [listener for fd in copies if (listener := try_listener(fd))]
    assert len(taken) == len(copies)
    completed = complete_set(ListenerSet("listeners-4", tuple(taken)), (4,))
    inodes = [os.fstat(listener.sock.fileno()).st_ino for listener in completed.sockets]
    assert inodes[1:] == [os.fstat(listener.sock.fileno()).st_ino for listener in whole.sockets[1:]]
    assert {listener.kind for listener in completed.sockets} == {"outbound", "inbound", "tunnel"}
    assert [listener.sock.fileno() for listener in taken if listener not in completed.sockets] == [-1, -1]
    assert complete_set(completed, ()).sockets == ()
    assert {listener.sock.fileno() for listener in completed.sockets} == {-1}
    whole.close()
    other.close()


def test_what_is_none_of_our_listeners_is_closed(ports: dict[str, int]) -> None:
    """Another port, another address, a socket that does not listen or does not share, and what is no socket."""
    made = [socket.create_server(("127.0.0.1", 0), reuse_port=True), socket.socket()]
    made.append(socket.create_server(("127.0.0.1", ports["outbound"])))
    made.append(socket.create_server(("127.0.0.1", ports["tunnel"]), reuse_port=True))
    made.append(socket.create_server(("127.0.0.1", ports["inbound"]), reuse_port=True))  # not transparent
    descriptors = [*(sock.detach() for sock in made), os.open(os.devnull, os.O_RDONLY)]
    assert [try_listener(fd) for fd in descriptors] == [None] * 6
    for fd in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert try_listener(descriptors[0]) is None


def test_names_are_not_given_twice() -> None:
    """The service manager closes everything of a name together."""
    assert free_name(["listeners-0", "listeners-2"]) == "listeners-1"
