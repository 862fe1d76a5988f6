"""Who holds a port."""

import os
import socket
from pathlib import Path

import pytest

from nodeagent.process.port_holder import (
    describe_holder,
    is_lab_store,
    is_nodeagent,
    is_systemd,
    listening_inodes,
    try_holder,
    try_holders,
)

TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:3A99 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
"""


def test_only_listening_sockets_of_that_port_count() -> None:
    """15001 is 3A99."""
    assert listening_inodes(TABLE, 15001) == ("4711",)
    assert listening_inodes(TABLE, 22) == ("4713",)
    assert listening_inodes("", 22) == ()


def test_a_process_is_named_by_number_and_name() -> None:
    """Here: this one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = Path("/proc/self/comm").read_text().strip()
        assert describe_holder(server.getsockname()[1]) == f"process {os.getpid()} ({name})"


@pytest.mark.parametrize(
    ("command", "is_one"),
    [("python3 -P -m nodeagent.control --config=x", True), ("python3 /opt/nodeagent/bin/nodeagent run", True), ("nodeagent run", True),
     ("envoy -c /etc/envoy.yaml --tag a nodeagent", False), ("python3 -m nodeagents", False), ("", False)],
)  # fmt: skip
def test_an_agents_process_is_told_by_its_command(tmp_path: Path, command: str, *, is_one: bool) -> None:
    """Its name is Python's."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cmdline").write_text(command.replace(" ", "\0"))
    assert is_nodeagent(7, tmp_path) is is_one
    assert not is_nodeagent(8, tmp_path)


def test_a_process_that_cannot_be_seen_is_another_process(tmp_path: Path) -> None:
    """Truthful, if not helpful."""
    assert describe_holder(15001, tmp_path) == "another process"


def test_systemd_is_named_only_where_it_holds_a_port_alone(tmp_path: Path) -> None:
    """It keeps the sockets of units that have others in use."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(TABLE)
    for pid, name in (("1", "systemd"), ("7", "python3")):
        (tmp_path / pid / "fd").mkdir(parents=True)
        (tmp_path / pid / "fd" / "3").symlink_to("socket:[4711]")
        (tmp_path / pid / "comm").write_text(f"{name}\n")
    assert try_holder(15001, tmp_path) == 7
    (tmp_path / "7" / "fd" / "3").unlink()
    assert try_holder(15001, tmp_path) == 1
    assert [is_systemd(pid, tmp_path) for pid in (1, 7)] == [True, False]
    (tmp_path / "1" / "comm").write_text("nginx\n")
    assert not is_systemd(1, tmp_path)


def test_a_labs_store_is_no_agent_and_named_only_where_it_holds_a_port_alone(tmp_path: Path) -> None:
    """It was started before the agent whose sockets it keeps, and its command begins as an agent's."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(TABLE)
    for pid, command in (("7", "python3 -P -m nodeagent.lab.fd_store keep /run"), ("9", "python3 /opt/nodeagent/bin/nodeagent run")):
        (tmp_path / pid / "fd").mkdir(parents=True)
        (tmp_path / pid / "fd" / "3").symlink_to("socket:[4711]")
        (tmp_path / pid / "cmdline").write_text(command.replace(" ", "\0"))
    assert try_holder(15001, tmp_path) == 9
    assert try_holders((15001, 22, 80), tmp_path) == {15001: 9, 22: 0, 80: 0}
    (tmp_path / "9" / "fd" / "3").unlink()
    assert try_holder(15001, tmp_path) == 7
    assert [(is_lab_store(pid, tmp_path), is_nodeagent(pid, tmp_path)) for pid in (7, 9)] == [(True, False), (False, True)]
