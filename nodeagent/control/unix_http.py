"""One question to the admin socket: HTTP over a Unix socket, for commands."""

import http.client
import socket

from nodeagent import limits

ANSWER_BYTES = 256 * 1024 * 1024  # 20,000 connections are 20 MB


def get(path: str, target: str) -> tuple[int, bytes]:
    """Status and body of the answer to GET `target`; see `request`."""
    return request(path, "GET", target)


def request(path: str, method: str, target: str, body: bytes | None = None, *, timeout_s: float = 0.0) -> tuple[int, bytes]:
    """Status and body of the answer of whoever listens at `path`. timeout_s: of silence; 0: as usual, more where a body is taken in.

    Raises:
        OSError: nobody is there, or no answer comes in time.
        http.client.HTTPException: what comes is no answer.
    """
    connection = _Connection(path, timeout_s or (limits.API_ANSWER_S if body is None else limits.API_TELL_S))
    try:
        connection.request(method, target, body)
        response = connection.getresponse()
        return response.status, response.read(ANSWER_BYTES)
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """Owned by one call."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """http.client's: opens the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
