"""Which waiting connections are the agent's, with rows that a kernel (6.18) sent; and real ones that are ended."""

import socket
import struct
from collections.abc import Iterator

import pytest

from nodeagent.process.unaccepted import Unaccepted, can_end, end, find_unaccepted, is_agent_listening, open_diag
from redirect.sockets import read_rows

AGENT, APPLICATION = "33ef330000000000", "34ef330000000000"
"""Cgroups."""
PLAIN, TRANSPARENT = "52", "72"
HOST, PEER, LOOP, ANY = "0a4e0001", "0a4e0002", "7f000001", "00000000"
LISTEN, ESTABLISHED, CLOSE_WAIT = 10, 1, 8
OUTBOUND, INBOUND, TUNNEL, WEB = 15001, 15006, 15008, 8080


def row(
    state: int, address: str, port: int, cgroup: str, options: str = PLAIN, *, inode: int = 0, uid: int = 0, cookie: int = 1
) -> bytes:
    """As the kernel lists a socket of IPv4."""
    head = bytes((2, state, 0, 0)) + struct.pack(">HH", port, 57358 if state != LISTEN else 0)
    ends = bytes.fromhex(address).ljust(16, b"\0") + bytes.fromhex(PEER if state != LISTEN else ANY).ljust(16, b"\0")
    rest = struct.pack("=III", 0, cookie, 0) + struct.pack("=IIIII", 0, 0, 0, uid, inode)
    attributes = f"050008000000000008000f00000000000c001500{cgroup}06001600{options}000000"
    return head + ends + rest + bytes.fromhex(attributes)


REDIRECTED_ROW = (
    "020100003a99e00e7f0000010000000000000000000000000a4e00010000000000000000000000000000000089e00900000000000000000000000000"
    "000000000000000000000000050008000000000008000f00000000000c00150033ef3300000000000600160052000000"
)
REDIRECTED6_ROW = (
    "0a0100003a998ed400000000000000000000000000000001fd7800000000000000000000000000010000000097e00900000000000000000000000000"
    "000000000000000000000000050008000000000008000f00000000000c00150033ef3300000000000600160012000000"
)
BY_TPROXY6_ROW = (
    "0a0100001f90e390fd780000000000000000000000000001fd7800000000000000000000000000020000000095e00900000000000000000000000000"
    "000000000000000000000000050008000000000008000f00000000000c00150033ef3300000000000600160032000000"
)
LISTENER6_ROW = (
    "0a0a00003a9e000000000000000000000000000000000001000000000000000000000000000000000000000091e00900000000000000000001000000"
    "001000000000000013993704050008000000000005000b000100000008000f00000000000c00150033ef3300000000000600160032000000"
)
OUT, IN, TUNNELS = (
    row(LISTEN, LOOP, OUTBOUND, AGENT, inode=11),
    row(LISTEN, LOOP, INBOUND, AGENT, TRANSPARENT, inode=12),
    row(LISTEN, ANY, TUNNEL, AGENT, inode=13),
)
APP = row(LISTEN, ANY, WEB, APPLICATION, inode=14)
WAITING = {
    "redirected": bytes.fromhex(REDIRECTED_ROW),
    "redirected, IPv6": bytes.fromhex(REDIRECTED6_ROW),
    "by TPROXY": row(ESTABLISHED, HOST, WEB, AGENT, TRANSPARENT),
    "by TPROXY, IPv6": bytes.fromhex(BY_TPROXY6_ROW),
    "in a tunnel's queue": row(ESTABLISHED, HOST, TUNNEL, AGENT),
    "its client has finished": row(CLOSE_WAIT, HOST, WEB, AGENT, TRANSPARENT),
}
OTHERS = {
    "an application's queue at the same port": row(ESTABLISHED, HOST, WEB, APPLICATION),
    "of a transparent application": row(ESTABLISHED, HOST, WEB, APPLICATION, TRANSPARENT),
    "of another listener in the agent's cgroup": row(ESTABLISHED, LOOP, 15020, AGENT),
    "at our port, of an application": row(ESTABLISHED, HOST, OUTBOUND, APPLICATION),
    "in no cgroup": row(ESTABLISHED, HOST, OUTBOUND, "0100000000000000"),
    "accepted": row(ESTABLISHED, LOOP, OUTBOUND, AGENT, inode=15),
    **{f"closed by its process, state {state}": row(state, LOOP, OUTBOUND, AGENT) for state in (4, 5, 9, 11)},
    "whose handshake is not over": row(3, LOOP, OUTBOUND, AGENT),
    "cut off": row(ESTABLISHED, LOOP, OUTBOUND, AGENT)[:71],
    "without attributes": row(ESTABLISHED, LOOP, OUTBOUND, AGENT)[:72],
}


@pytest.mark.parametrize("name", WAITING)
def test_who_waits_for_the_agent_is_found_by_the_cgroup_of_its_listener(name: str) -> None:
    """Wherever in the listing it stands; by the kernel's own name of it."""
    waiting = WAITING[name]
    expected = {Unaccepted(waiting[0], waiting[4:52])}
    assert find_unaccepted([OUT, IN, APP, waiting]) == find_unaccepted([waiting, TUNNELS]) == expected
    assert find_unaccepted([waiting, bytes.fromhex(LISTENER6_ROW)]) == expected


@pytest.mark.parametrize("name", OTHERS)
def test_nobody_elses_is_touched(name: str) -> None:
    """Nor what a worker has accepted, or closed."""
    assert find_unaccepted([OUT, IN, TUNNELS, APP, OTHERS[name]]) == frozenset()


@pytest.mark.parametrize(
    "listener",
    [
        row(LISTEN, HOST, OUTBOUND, AGENT, inode=1),
        row(LISTEN, ANY, INBOUND, AGENT, TRANSPARENT, inode=1),
        row(LISTEN, HOST, TUNNEL, AGENT, inode=1),
        row(LISTEN, LOOP, OUTBOUND, AGENT, inode=1, uid=1000),
        row(LISTEN, LOOP, WEB, AGENT, inode=1),
    ],
)
def test_who_listens_elsewhere_or_is_not_root_is_no_agent(listener: bytes) -> None:
    """An application at one of our ports, on another address; a user's program while no agent runs."""
    assert find_unaccepted([listener, *WAITING.values()]) == frozenset()


def test_whether_anybody_listens_for_an_agent() -> None:
    """Applications that do, and who waits, are none."""
    assert [is_agent_listening([APP, each]) for each in (OUT, IN, TUNNELS)] == [True] * 3
    assert not is_agent_listening([b"", APP, *OTHERS.values(), *WAITING.values()])


def test_the_root_cgroup_is_nobodys() -> None:
    """Everybody's sockets may be there."""
    root = "0100000000000000"
    assert find_unaccepted([row(LISTEN, LOOP, OUTBOUND, root, inode=1), row(ESTABLISHED, LOOP, OUTBOUND, root)]) == frozenset()


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Of this process, at any port."""
    with socket.create_server((request.param, 0), family=socket.AF_INET6 if ":" in request.param else socket.AF_INET) as made:
        yield made


def queued(listener: socket.socket) -> dict[int, Unaccepted]:
    """What the kernel lists of connections to it, by their clients' ports."""
    port = struct.pack(">H", listener.getsockname()[1])
    rows = [each for each in read_rows() if each[1] == ESTABLISHED and each[4:6] == port]
    return {int.from_bytes(each[6:8], "big"): Unaccepted(each[0], each[4:52]) for each in rows}


def test_its_client_sees_a_reset_and_no_other_connection_is_touched(listener: socket.socket) -> None:
    """One is accepted, two wait, one of them is ended: once, and never again what got its ports."""
    clients = [socket.create_connection(listener.getsockname()[:2]) for _ in range(3)]
    accepted, _ = listener.accept()
    names = queued(listener)
    with open_diag() as diag, accepted, clients[0], clients[1], clients[2]:
        ended = names[clients[1].getsockname()[1]]
        assert (end(diag, ended), end(diag, ended)) == (True, False)
        with pytest.raises(ConnectionResetError):
            clients[1].recv(1)
        accepted.sendall(b"a")
        assert clients[0].recv(1) == b"a"
        listener.accept()[0].close()  # the queue still holds the one that is no more
        with listener.accept()[0] as other:
            other.sendall(b"b")
            assert clients[2].recv(1) == b"b"


def test_a_name_is_of_one_socket_alone(listener: socket.socket) -> None:
    """Another connection between the same ends has another cookie."""
    with socket.create_connection(listener.getsockname()[:2]) as client, open_diag() as diag:
        name = queued(listener)[client.getsockname()[1]]
        assert not end(diag, Unaccepted(name.family, name.id[:-8] + bytes(8)))
        assert end(diag, name)


def test_a_kernel_that_cannot_is_told_from_one_that_will_not() -> None:
    """This one ends no socket of another kind, and says so as one would that was built without it."""
    with open_diag() as diag:
        assert can_end(diag)
        assert not can_end(diag, socket.AF_UNIX)
        with pytest.raises(OSError, match="Operation not supported"):
            end(diag, Unaccepted(socket.AF_UNIX, bytes(48)))
        with pytest.raises(OSError, match="Invalid argument"):
            can_end(diag, 255)
