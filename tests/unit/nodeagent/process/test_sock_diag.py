"""Sock_diag queries and rows, with bytes that a kernel (6.18) sent and took, and what of a row is believed."""

import pytest

from nodeagent.process.sock_diag import (
    NOBODY,
    Listed,
    Owner,
    Row,
    believe,
    decode_listed,
    decode_row,
    encode_query,
    is_established,
)
from redirect.flow import Flow

OWN, REMOTE = b"\x0a\x5a\1\1", b"\x0a\x5a\1\2"
FLOW = Flow(OWN, 50586, REMOTE, 80)
QUERY = (
    "02060000ffffffffc59a00500a5a01010000000000000000000000000a5a010200000000000000000000000000000000ffffffffffffffff"
)
ROW = (
    "02010000c59a00500a5a01010000000000000000000000000a5a010200000000000000000000000000000000011000000000"
    "00000000000000000000000000000000000042890000050008000000000008000f00000000000c001500fa0d000000000000"
    "0600160052000000"
)
MAPPED = Flow(OWN, 50592, REMOTE, 80)
MAPPED_ROW = (
    "0a010000c5a0005000000000000000000000ffff0a5a010100000000000000000000ffff0a5a010200000000031000000000"
    "00000000000000000000000000000000000046890000050008000000000008000f00000000000c001500fa0d000000000000"
    "0600160012000000"
)
ORPHAN = Flow(OWN, 50598, REMOTE, 80)
ORPHAN_ROW = (
    "02040100c5a600500a5a01010000000000000000000000000a5a010200000000000000000000000000000000061000000000"
    "0000cc00000000000000010000000000000000000000050008000300000008000f00000000000c001500fa0d000000000000"
    "0600160052000000"
)


def test_a_query_names_both_ends_and_no_interface() -> None:
    """As the kernel took it."""
    assert encode_query(FLOW).hex() == QUERY


@pytest.mark.parametrize(
    ("flow", "row", "expected"),
    [
        (FLOW, ROW, Row(state=1, uid=0, inode=35138, cgroup_id=3578)),
        (MAPPED, MAPPED_ROW, Row(state=1, uid=0, inode=35142, cgroup_id=3578)),
        (ORPHAN, ORPHAN_ROW, Row(state=4, uid=0, inode=0, cgroup_id=3578)),
    ],
)
def test_a_row_is_read(flow: Flow, row: str, expected: Row) -> None:
    """IPv4, IPv4 from an IPv6 socket, and a socket whose process is gone."""
    assert decode_row(bytes.fromhex(row), flow) == expected


@pytest.mark.parametrize(
    "flow",
    [
        FLOW._replace(sport=50587),
        FLOW._replace(dport=81),
        FLOW._replace(src=REMOTE),
        FLOW._replace(dst=OWN),
        Flow(OWN.ljust(16, b"\0"), 50586, REMOTE.ljust(16, b"\0"), 80),
    ],
)
def test_a_row_of_another_connection_is_nothing(flow: Flow) -> None:
    """A listening socket, which the kernel may offer instead, has no such far end."""
    assert decode_row(bytes.fromhex(ROW), flow) is None


def test_a_row_that_is_cut_off_is_nothing() -> None:
    """Or has no cgroup."""
    whole = bytes.fromhex(ROW)
    assert decode_row(whole[:71], FLOW) is None
    assert decode_row(whole[:72], FLOW) == Row(1, 0, 35138, 0)


@pytest.mark.parametrize(
    ("row", "owner"),
    [
        (Row(1, 1001, 7, 50), Owner(1001, 50)),
        (Row(4, 1001, 7, 50), Owner(1001, 50)),
        (Row(5, 0, 7, 50), Owner(0, 50)),
        (Row(8, 1001, 7, 50), Owner(1001, 50)),
        (Row(4, 0, 0, 50), Owner(-1, 50)),
        (Row(1, 1001, 7, 1), Owner(1001, 0)),
        (Row(1, 1001, 7, 0), Owner(1001, 0)),
        (Row(5, 0, 0, 0), NOBODY),
        (Row(4, 0, 0, 1), NOBODY),
        (Row(6, 0, 0, 0), NOBODY),
        (Row(6, 0, 0, 50), NOBODY),
        (Row(3, 0, 0, 50), NOBODY),
        (Row(12, 0, 0, 50), NOBODY),
        (Row(10, 1001, 7, 50), NOBODY),
        (Row(7, 1001, 7, 50), NOBODY),
        (Row(2, 1001, 7, 50), NOBODY),
    ],
)
def test_only_a_connected_socket_names_anybody(row: Row, owner: Owner) -> None:
    """TIME_WAIT (6), SYN_RECV (3, 12), LISTEN (10), CLOSE (7): nobody; an orphan has a cgroup and no uid; root's names nobody."""
    assert believe(row) == owner


def test_a_listed_socket_tells_both_ends() -> None:
    """What was not asked for by its ends has them in the row; a row that is cut off is none."""
    assert decode_listed(bytes.fromhex(ROW)) == Listed(FLOW, Row(state=1, uid=0, inode=35138, cgroup_id=3578))
    assert decode_listed(bytes.fromhex(ROW)[:71]) is None
    assert is_established(Row(1, 0, 0, 0))
    assert not is_established(Row(8, 0, 0, 0))
