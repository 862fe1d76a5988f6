"""The agent asked over its socket."""

import contextlib
import http.server
import socket
import socketserver
import threading

import click
import msgspec
import pytest

from nodeagent import limits
from nodeagent.cli.agent_api import (
    AgentRefusesError,
    AgentSilentError,
    AgentUnreachableError,
    ask,
    find_socket,
    parse_answer,
    tell,
    words_here,
)
from nodeagent.control import unix_http
from nodeagent.control.report import ConnectionsAnswer, ErrorAnswer

EMPTY = ConnectionsAnswer(connections=[], total=0)


def test_the_socket_is_the_given_the_configured_or_the_usual(tmp_path) -> None:
    config = tmp_path / "nodeagent.toml"
    assert find_socket("/x", config) == "/x"
    assert find_socket(None, config) == "/run/nodeagent/api.sock"
    config.write_text(
        '[host]\nname="h"\naddresses=["10.0.0.1"]\n[catalog]\naddress="https://c:1"\n[admin]\nsocket="/y/z"\n'
    )
    assert find_socket(None, config) == "/y/z"


def test_the_agents_sentences_name_the_commands_of_this_host(tmp_path) -> None:
    """Of a lab's, where the configuration says so."""
    config = tmp_path / "nodeagent.toml"
    assert words_here(config)("systemctl restart nodeagent") == "systemctl restart nodeagent"
    config.write_text(
        '[host]\nname="h"\naddresses=["10.0.0.1"]\n[catalog]\naddress="https://c:1"\n[intercept]\ncgroup_root="nodeagent-lab/lab/host1"\n'
    )
    assert words_here(config)("systemctl restart nodeagent") == "nodeagent lab agent host1 restart"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = msgspec.json.encode(EMPTY)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.asked.append(self.path)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None: ...


def test_an_answer_is_decoded_and_the_query_is_sent(tmp_path) -> None:
    path = str(tmp_path / "sock")
    with socketserver.UnixStreamServer(path, _Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        answer = ask("/v1/connections", ConnectionsAnswer, socket_path=path, query={"service": "a b"})
        thread.join(20)
    assert (answer, server.asked) == (EMPTY, ["/v1/connections?service=a+b"])


def test_no_agent_is_exit_status_3_with_a_cure(tmp_path) -> None:
    with pytest.raises(AgentUnreachableError, match="systemctl start nodeagent") as caught:
        ask("/v1/status", ConnectionsAnswer, socket_path=str(tmp_path / "sock"))
    assert caught.value.exit_code == 3


def test_a_socket_without_a_listener_says_that_the_agent_has_ended(tmp_path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "sock"))
    with pytest.raises(AgentUnreachableError, match="has ended"):
        ask("/v1/status", ConnectionsAnswer, socket_path=str(tmp_path / "sock"))


def test_a_socket_that_is_closed_to_the_caller_is_exit_status_1(tmp_path, monkeypatch) -> None:
    """The agent is there: whoever watches it must not take this for an outage."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(unix_http, "request", refuse)  # the tests are root, to whom nothing is closed
    with pytest.raises(AgentRefusesError, match="closed to uid") as caught:
        ask("/v1/status", ConnectionsAnswer, socket_path=str(tmp_path / "sock"))
    assert caught.value.exit_code == 1


def test_an_agent_that_says_nothing_is_exit_status_5(tmp_path, monkeypatch) -> None:
    """Within API_ANSWER_S, or API_TELL_S where something is to be changed."""
    monkeypatch.setattr(limits, "API_ANSWER_S", 0.05)
    monkeypatch.setattr(limits, "API_TELL_S", 0.06)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "sock"))
        silent.listen()
        with pytest.raises(AgentSilentError, match=r"did not answer within 0\.05 s") as caught:
            ask("/v1/status", ConnectionsAnswer, socket_path=str(tmp_path / "sock"))
        with pytest.raises(AgentSilentError):
            tell("/v1/modes", ErrorAnswer(error=""), ConnectionsAnswer, socket_path=str(tmp_path / "sock"))
    assert caught.value.exit_code == 5


def test_an_agent_whose_queue_is_full_is_a_silent_one(tmp_path) -> None:
    """Nobody takes who waits there; the kernel does not let a caller wait for a place."""
    with socket.socket(socket.AF_UNIX) as silent, contextlib.ExitStack() as waiting:
        silent.bind(str(tmp_path / "sock"))
        silent.listen(0)
        first = waiting.enter_context(socket.socket(socket.AF_UNIX))
        first.connect(str(tmp_path / "sock"))
        with pytest.raises(AgentSilentError, match="answers none of the many who wait") as caught:
            ask("/v1/status", ConnectionsAnswer, socket_path=str(tmp_path / "sock"))
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(("status", "code"), [(400, 2), (403, 1), (404, 4), (409, 1), (500, 1)])
def test_the_agents_own_error_is_shown_with_its_exit_status(status: int, code: int) -> None:
    with pytest.raises(AgentRefusesError, match="its own words") as caught:
        parse_answer(status, msgspec.json.encode(ErrorAnswer(error="its own words")), ConnectionsAnswer)
    assert caught.value.exit_code == code


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (200, b"{}"), (500, b"oops"), (200, b"")])
def test_anything_else_is_an_error_of_ours(status: int, body: bytes) -> None:
    with pytest.raises(click.ClickException, match="cannot be read"):
        parse_answer(status, body, ConnectionsAnswer)
