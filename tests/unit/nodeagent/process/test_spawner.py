"""Helpers of the spawner. That it forks and confines is tried for real in test_spawner_process and in tests/e2e."""

import socket

import pytest

from nodeagent.config import parse_config
from nodeagent.process.orders import Spawn, SpawnerSetup
from nodeagent.process.spawner import _exit_code, _worker_setup

CONFIG = parse_config('[host]\nname = "h"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "https://c:8501"\n', "test")


def test_descriptors_become_what_the_order_says_they_are() -> None:
    """Two channels; none of them blocks. And a tag that no worker had: numbers are given again, serials are not."""
    descriptors = tuple(socket.socket().detach() for _ in range(2))
    setup = _worker_setup(Spawn(7, 5), descriptors, SpawnerSetup(CONFIG, 64902, 64902, "b"))
    assert (setup.tag, setup.config) == ("b7", CONFIG)
    assert (setup.supervisor.fileno(), setup.control.fileno()) == descriptors
    for sock in (setup.supervisor, setup.control):
        assert sock.gettimeout() == 0
        sock.close()


@pytest.mark.parametrize(("code", "expected"), [(None, 0), (0, 0), (3, 3), ("why", 1)])
def test_a_worker_that_exits_says_why(code: object, expected: int, capsys: pytest.CaptureFixture[str]) -> None:
    """As the interpreter would."""
    assert _exit_code(SystemExit(code)) == expected
    assert capsys.readouterr().err == ("why\n" if code == "why" else "")
