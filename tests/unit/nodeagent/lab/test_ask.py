"""Asking an agent over its admin socket."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from nodeagent import limits
from nodeagent.lab import layout
from nodeagent.lab.ask import ask_agent
from nodeagent.lab.errors import LabError
from nodeagent.lab.layout import Host


class Answer(msgspec.Struct):
    """What these agents answer."""

    n: int


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with an empty directory for its socket."""
    monkeypatch.setattr(layout, "BASE", tmp_path)
    (made,) = layout.hosts_of("l", 77, 1)
    made.own("run").mkdir(parents=True)
    return made


@contextmanager
def answering(host: Host, raw: bytes) -> Iterator[None]:
    """A process behind the socket that answers once."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(host.own("run") / "api.sock"))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(raw)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def test_an_answer_is_decoded(host: Host) -> None:
    """As the type that was asked for."""
    with answering(host, b'HTTP/1.0 200 OK\r\n\r\n{"n": 3}'):
        assert ask_agent(host, "/x", Answer) == Answer(3)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"HTTP/1.0 500 no\r\n\r\nbroken", "refused /x: broken"),
        (b"HTTP/1.0 200 OK\r\n\r\n[]", "something else"),
        (b"what\r\n\r\n", "does not answer"),
        (b"", "does not answer"),
    ],
)
def test_everything_else_is_our_error(host: Host, raw: bytes, said: str) -> None:
    """With the host's name in it."""
    with answering(host, raw), pytest.raises(LabError, match=f"agent on host1.*{said}"):
        ask_agent(host, "/x", Answer)


def test_one_that_hangs_is_told_with_what_ends_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this very lab; and a socket that nobody listens at has no number of an error."""
    monkeypatch.setattr(limits, "API_ANSWER_S", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(host.own("run") / "api.sock"))
        silent.listen()
        with pytest.raises(LabError, match=r"did not answer within 0\.05 s: .*; nodeagent lab agent --name l host1 restart"):
            ask_agent(host, "/x", Answer)
    with pytest.raises(LabError, match=r"does not answer: Connection refused$"):
        ask_agent(host, "/x", Answer)


def test_no_agent_is_our_error(host: Host) -> None:
    """It may not be started yet."""
    with pytest.raises(LabError, match="agent on host1 does not answer"):
        ask_agent(host, "/x", Answer)
