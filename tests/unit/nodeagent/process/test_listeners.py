"""Listening and prepared sockets, on this machine's own loopback."""

import os
import socket
import struct

import pytest

from nodeagent import limits
from nodeagent.errors import ConfigError
from nodeagent.process import listeners
from nodeagent.process.listeners import (
    Family,
    bind_listeners,
    check_ports_are_free,
    close_listeners,
    make_prepared_socket,
    usable_families,
)
from nodeagent.process.preflight import backlog_limit

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
    first, second = bind_listeners(families), bind_listeners(families)
    try:
        assert [(listener.kind, listener.family) for listener in first] == [(k, f) for f in families for k in ports]
        loopback: dict[Family, str] = {4: "127.0.0.1", 6: "::1"}
        anywhere: dict[Family, str] = {4: "0.0.0.0", 6: "::"}
        for kind, family, sock in (*first, *second):
            ip = anywhere[family] if kind == "tunnel" else loopback[family]
            assert sock.getsockname()[:2] == (ip, ports[kind])
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            assert sock.gettimeout() == 0
            assert not os.get_inheritable(sock.fileno())
            option = (socket.IPPROTO_IP, IP_TRANSPARENT) if family == 4 else (socket.IPPROTO_IPV6, IPV6_TRANSPARENT)
            assert sock.getsockopt(*option) == (kind == "inbound")
    finally:
        close_listeners(first)
        close_listeners(second)


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
    bound = bind_listeners((4,))
    try:
        infos = [listener.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104) for listener in bound]
        most = min(limits.ACCEPT_BACKLOG, backlog_limit())
        assert {struct.unpack_from("=II", info, 24) for info in infos} == {(0, most)}
    finally:
        close_listeners(bound)
