"""Which sockets still need what apply installed."""

import errno
import socket
import struct

import pytest

from redirect.sockets import LISTEN, Dependents, TcpSocket, decode_socket, find_dependents, read_sockets, split_rows

ESTABLISHED = 1
ERROR, DONE = 2, 3


def message(kind: int, body: bytes) -> bytes:
    """One netlink message, padded."""
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def test_a_row_is_decoded() -> None:
    """State and port from the fixed part, the mark from its attribute; no mark is zero."""
    row = struct.pack(">BBBBH66x", 2, ESTABLISHED, 0, 0, 15001)
    assert decode_socket(row) == TcpSocket(15001, ESTABLISHED, 0)
    assert decode_socket(row + struct.pack("=HHI", 8, 15, 0x5B)) == TcpSocket(15001, ESTABLISHED, 0x5B)


def test_rows_come_several_at_once_until_the_end() -> None:
    """Each padded to four bytes."""
    assert split_rows(message(20, b"abc") + message(20, b"defg")) == ([b"abc", b"defg"], False)
    assert split_rows(message(20, b"abc") + message(DONE, struct.pack("=i", 0))) == ([b"abc"], True)
    assert split_rows(b"") == ([], False)


@pytest.mark.parametrize("kind", [ERROR, DONE])
def test_a_refusal_is_no_empty_listing(kind: int) -> None:
    """Or remove would tear connections that it does not see. Refusals come as errors and as the end of a listing."""
    with pytest.raises(OSError, match=r".") as caught:
        split_rows(message(kind, struct.pack("=i", -errno.ENOENT)))
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("length", [0, 8, 15, 1000])
def test_a_message_that_lies_about_its_length_is_an_error(length: int) -> None:
    """No endless loop, no bytes of the next message."""
    with pytest.raises(OSError, match="netlink message"):
        split_rows(struct.pack("=IHHII", length, 20, 0, 1, 0))


def test_attributes_of_all_sizes_are_passed_over() -> None:
    """The mark is found behind others, and a malformed one ends the search."""
    row, mark = struct.pack(">BBBBH66x", 2, ESTABLISHED, 0, 0, 80), struct.pack("=HHI", 8, 15, 0x5B)
    assert decode_socket(row + struct.pack("=HHBxxx", 5, 8, 0) + struct.pack("=HHQ", 12, 21, 1) + mark).mark == 0x5B
    assert decode_socket(row + struct.pack("=HH", 2, 8) + mark).mark == 0
    assert decode_socket(row + struct.pack("=HH", 400, 8) + mark).mark == 0


def test_redirected_and_source_preserving_connections_depend_on_us() -> None:
    """Listeners are no connections, and a listening tunnel port means that an agent runs."""
    sockets = [
        TcpSocket(15001, ESTABLISHED, 0x5A000001), TcpSocket(15001, LISTEN, 0), TcpSocket(40000, ESTABLISHED, 0x5B),
        TcpSocket(15008, ESTABLISHED, 0), TcpSocket(8080, ESTABLISHED, 0), TcpSocket(8080, LISTEN, 0x5B),
    ]  # fmt: skip
    assert find_dependents(sockets, outbound_port=15001, tunnel_port=15008, mark=0x5B) == Dependents(
        2, is_agent_listening=False
    )
    sockets.append(TcpSocket(15008, LISTEN, 0))
    assert find_dependents(sockets, outbound_port=15001, tunnel_port=15008, mark=0x5B).is_agent_listening


def test_the_kernel_lists_sockets_of_both_families() -> None:
    """A listener and both ends of a connection, on IPv4 and IPv6."""
    for address in ("127.0.0.1", "::1"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with (
            socket.create_server((address, 0), family=family) as server,
            socket.create_connection(server.getsockname()[:2]) as client,
        ):
            listed = read_sockets()
            assert any(s.local_port == server.getsockname()[1] and s.state == LISTEN for s in listed)
            assert any(s.local_port == client.getsockname()[1] and s.state == ESTABLISHED for s in listed)
