"""Looking at this very kernel."""

import socket
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.probe import kernel
from redirect.libnftables import Nft
from tests.unit.nodeagent.probe.scene import scope


def test_this_kernel_takes_every_expression_and_keeps_none() -> None:
    """A dry run changes nothing."""
    assert kernel.expressions(scope()).refused == ()
    with Nft() as nft:
        assert "nodeagent_tried" not in nft.run("list tables")


def test_an_expression_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In nft's words."""
    monkeypatch.setattr(kernel, "_TRIED", {"magic": "type filter hook output priority 0; magic accept", "ct": kernel._TRIED["ct"]})
    found = kernel.expressions(scope(more='[intercept]\nbackend = "iptables"\n'))
    ((name, why),) = found.refused
    assert (name, found.backend) == ("magic", "iptables")
    assert "syntax error" in why
    assert kernel.expressions(scope(config=None)).backend == "nft"


def test_this_kernel_can_name_callers() -> None:
    """With and without a configuration."""
    assert kernel.identification(scope()).complaint == ""
    assert kernel.identification(scope(config=None)).complaint == ""


def test_cgroups_of_this_machine() -> None:
    """And a root that is not there."""
    assert Path(kernel.cgroups(scope()).mount, "cgroup.procs").exists()
    assert not kernel.cgroups(scope(more='[intercept]\ncgroup_root = "no/such"\n')).is_root_there


def test_figures_of_this_machine() -> None:
    """As the kernel tells them."""
    assert kernel.release(scope()).numbers >= (5, 10)
    table, ports, backlog = kernel.conntrack(scope()), kernel.ephemeral(scope()), kernel.backlog(scope())
    assert table is not None
    assert 0 <= table.count <= table.most
    assert 0 < ports.first < ports.last < 65_536
    assert backlog.most > 0


def test_where_most_ports_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real connections, in both families, also when they have just ended; and no more than CHECK_SOCKETS of each family."""
    first, last = 1024, 65_535
    for address in ("127.0.0.1", "::1"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, 0), family=family) as server:
            port = server.getsockname()[1]
            clients = [socket.create_connection((address, port)) for _ in range(3)]
            ends = [each for each in kernel.client_ends() if each[3] == port]
            shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            assert kernel.most_used(ends, first, last) == (3, shown)
            for client in clients:
                client.close()
            ended = [each for each in kernel.client_ends() if each[3] == port]
            assert kernel.most_used(ended, first, last)[0] == 3
    monkeypatch.setattr(limits, "CHECK_SOCKETS", 0)
    assert list(kernel.client_ends()) == []
    assert kernel.most_used([], first, last) == (0, "")


def test_ends_are_read_as_the_kernel_writes_them() -> None:
    """Mapped addresses are IPv4's; listeners call nobody."""
    assert kernel.parse_ends("  0: 0100007F:1F90 0200000A:0050 01 00000000:00000000") == ("0100007F", 8080, "0200000A", 80)
    assert kernel.address_of("0200000A") == "10.0.0.2"
    assert kernel.address_of("0000000000000000FFFF00000200000A") == "10.0.0.2"
    assert kernel.address_of("000077FD000000000000000001000000") == "[fd77::1]"
    assert kernel.most_used([("0100007F", 40_000, "00000000", 0)], 1024, 65_535) == (0, "")


def test_a_queue_that_overflows_while_we_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three clients, and room for one."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        clients = [socket.socket() for _ in range(3)]

        def overflow(_seconds: float) -> None:
            for client in clients:
                client.setblocking(False)
                client.connect_ex(server.getsockname())

        monkeypatch.setattr(kernel.time, "sleep", overflow)
        assert kernel.backlog(scope()).grown > 0
        for client in clients:
            client.close()


def test_texts_of_the_kernel() -> None:
    """Releases, ranges and counters."""
    assert kernel.parse_release("6.1.0-18-amd64").numbers == (6, 1)
    assert kernel.parse_release("odd").numbers == (0, 0)
    assert kernel.parse_ranges("15000-15020,8080\n") == ((15000, 15020), (8080, 8080))
    assert kernel.parse_ranges("\n") == ()
    assert kernel.overflows_in("TcpExt: A ListenOverflows B\nTcpExt: 1 42 3\nIpExt: A\nIpExt: 9\n") == 42
    assert kernel.overflows_in("") == 0
