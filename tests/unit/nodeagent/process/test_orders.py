"""Orders between supervisor and spawner."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.config import parse_config
from nodeagent.errors import FrameError
from nodeagent.process.orders import (
    Exited,
    Order,
    Spawn,
    Spawned,
    SpawnerSetup,
    decode_setup,
    encode_setup,
    receive_order,
    send_order,
)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both ends, not blocking."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


@pytest.mark.parametrize("order", [Spawn(1, 2), Spawned(1, 2, 3), Exited(3, -9), Exited(3, 0)])
def test_an_order_arrives_as_it_was_sent(pair: Pair, order: Order) -> None:
    """Each kind."""
    send_order(pair[0], order)
    assert receive_order(pair[1]) == (order, ())


def test_descriptors_travel_beside_it_and_do_not_leak_into_programs(pair: Pair) -> None:
    """Close-on-exec."""
    with Path(os.devnull).open() as file:
        send_order(pair[0], Spawned(1, 2, 3), [file.fileno()])
        received = receive_order(pair[1])
        assert received
        (descriptor,) = received.descriptors
        assert os.fstat(descriptor).st_rdev == os.fstat(file.fileno()).st_rdev
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


def test_the_end_and_nothing_yet_are_different(pair: Pair) -> None:
    """None, and BlockingIOError."""
    with pytest.raises(BlockingIOError):
        receive_order(pair[1])
    pair[0].close()
    assert receive_order(pair[1]) is None


@pytest.mark.parametrize("data", [b"x", b"\x81\xa4type\xa3foo", b"\xc1" * 100, b"z" * 5000])
def test_anything_else_is_an_error(pair: Pair, data: bytes) -> None:
    """Of ours."""
    pair[0].send(data)
    with pytest.raises(FrameError):
        receive_order(pair[1])


def test_a_setup_is_the_configuration_as_it_was_checked() -> None:
    """Whatever has become of the file since."""
    text = '[host]\nname = "h"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "https://c:8501"\n[identity]\nunits = ["a.service"]\n'
    setup = SpawnerSetup(parse_config(text, "test"), 64902, 64902, "b")
    assert decode_setup(encode_setup(setup)) == setup
