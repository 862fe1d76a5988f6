"""Who holds a port."""

import os
import socket
from pathlib import Path

from nodeagent.process.port_holder import describe_holder, listening_inodes

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


def test_a_process_that_cannot_be_seen_is_another_process(tmp_path: Path) -> None:
    """Truthful, if not helpful."""
    assert describe_holder(15001, tmp_path) == "another process"
