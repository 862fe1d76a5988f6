"""Tables of listeners."""

import socket

import pytest

from nodeagent.probe.listeners import heard_at, is_heard, parse_listeners, read_listeners

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1F91 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 00000000000000000000000000000000:0050 0:0 0A 0 0 0 0 0 3
   3: 0000000000000000FFFF00000200000A:0051 0:0 0A 0 0 0 0 0 4
"""


def test_only_listeners_count() -> None:
    """Each by its address as it is written elsewhere; IPv4 in IPv6 clothes as IPv4."""
    assert parse_listeners(TABLE) == {("127.0.0.1", 8080), ("::", 80), ("10.0.0.2", 81)}


@pytest.mark.parametrize(
    ("ip", "port", "heard"),
    [("127.0.0.1", 8080, True), ("10.0.0.1", 8080, False), ("10.0.0.1", 80, True), ("fd00::1", 80, True), ("fd00::1", 81, False)],
)
def test_who_is_heard(ip: str, port: int, *, heard: bool) -> None:
    """A wildcard answers for every address of its family."""
    assert is_heard(parse_listeners(TABLE), ip, port) is heard


def test_listeners_of_this_machine() -> None:
    """One that is opened is there, with its address."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        assert heard_at(read_listeners(), port) == ("::1",)
    assert heard_at(read_listeners(), port) == ()
