"""Connecting without a resolver."""

import asyncio
import socket
import threading

import pytest
import uvloop

from nodeagent.model.address import Address
from nodeagent.proxy.dial import dial


def run(address: Address, family: socket.AddressFamily) -> Address:
    """Dials under uvloop, as a worker does; who we are to the other end. No thread may be started."""

    async def connect() -> Address:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            await dial(sock, address)
            assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
            return Address(*sock.getsockname()[:2])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(connect())


@pytest.mark.parametrize(("ip", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_both_families_connect(ip: str, family: socket.AddressFamily) -> None:
    """The far end sees the address that the caller has."""
    with socket.create_server((ip, 0), family=family) as server:
        ours = run(Address(ip, server.getsockname()[1]), family)
        connection, theirs = server.accept()
        connection.close()
        assert Address(*theirs[:2]) == ours


def test_a_refusal_keeps_its_error_number() -> None:
    """What the caller is told depends on it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        run(Address("127.0.0.1", port), socket.AF_INET)
