"""Looking at this very kernel."""

import socket
from pathlib import Path

import pytest

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
    ((name, why),) = kernel.expressions(scope()).refused
    assert name == "magic"
    assert "syntax error" in why


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
