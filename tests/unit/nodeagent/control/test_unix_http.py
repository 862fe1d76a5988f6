"""One question over a Unix socket."""

import http.client
import socket
import threading

import pytest

from nodeagent.control.unix_http import get, request


def answered(path: str, raw: bytes) -> tuple[int, bytes, bytes]:
    """What `get` makes of an answer, and what was asked."""
    asked = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(65536))
                connection.sendall(raw)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return *get(path, "/v1/status?x=1"), asked[0]
        finally:
            thread.join(20)


def test_status_and_body_come_as_they_are(tmp_path) -> None:
    status, body, asked = answered(str(tmp_path / "sock"), b"HTTP/1.0 418 no\r\n\r\nteapot")
    assert (status, body) == (418, b"teapot")
    assert asked.startswith(b"GET /v1/status?x=1 HTTP/1.1\r\n")


def test_no_answer_is_http_clients_own_error(tmp_path) -> None:
    with pytest.raises(http.client.BadStatusLine):
        answered(str(tmp_path / "sock"), b"what\r\n\r\n")


def test_nobody_there_is_the_kernels_own_error(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        get(str(tmp_path / "none"), "/")


def test_whoever_is_in_a_hurry_says_so(tmp_path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "sock"))
        server.listen()
        with pytest.raises(TimeoutError):
            request(str(tmp_path / "sock"), "GET", "/", timeout_s=0.05)
