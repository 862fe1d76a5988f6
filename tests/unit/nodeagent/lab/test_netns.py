"""Sockets inside another network namespace; across real ones in tests/e2e/test_lab.py."""

import os
import socket

import pytest

from nodeagent.lab.netns import connect_in


def test_a_connection_is_made_there() -> None:
    """The namespace of this very process, in a thread that enters it."""
    server = socket.create_server(("127.0.0.1", 0))
    with server, connect_in(os.getpid(), server.getsockname(), 5.0) as ours:
        theirs, address = server.accept()
        assert ours.getsockname() == address
        theirs.close()


def test_failures_come_back_to_the_caller() -> None:
    """They happen in another thread."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    with pytest.raises(ConnectionRefusedError):
        connect_in(os.getpid(), address, 5.0)
    with pytest.raises(FileNotFoundError):
        connect_in(2**22 + 1, address, 5.0)
