"""Which sockets still need what apply installed."""

import socket
import struct

from redirect.sockets import LISTEN, Dependents, TcpSocket, decode_socket, find_dependents, read_sockets

ESTABLISHED = 1


def test_a_row_is_decoded() -> None:
    """State and port from the fixed part, the mark from its attribute; no mark is zero."""
    row = struct.pack(">BBBBH66x", 2, ESTABLISHED, 0, 0, 15001)
    assert decode_socket(row) == TcpSocket(15001, ESTABLISHED, 0)
    assert decode_socket(row + struct.pack("=HHI", 8, 15, 0x5B)) == TcpSocket(15001, ESTABLISHED, 0x5B)


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
