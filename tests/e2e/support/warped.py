"""A real catalog seen through something that spoils its answers, as a test says."""

import http.client
import http.server
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Self

WAIT_S = 60.0


class Told(NamedTuple):
    """An answer of the catalog."""

    status: int
    headers: dict[str, str]
    body: bytes

    def of(self, **headers: str | None) -> "Told":
        """The same with other headers; None takes one away."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        kept = {name: value for name, value in self.headers.items() if name not in names}
        return self._replace(headers={**kept, **{name: value for name, value in names.items() if value is not None}})


Warp = Callable[["Warped", http.server.BaseHTTPRequestHandler, str, Told], None]


class Warped:
    """Use with `with`. `warp` sends each answer; `asked` counts requests by path."""

    def __init__(self, port: int) -> None:
        self.warp: Warp = honest
        self.asked: Counter[str] = Counter()
        self.is_ending = False
        handler = type("Handler", (_Handler,), {"warped": self, "upstream": port})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def address(self) -> str:
        """For `catalog.address`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_ending = True
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    warped: Warped
    upstream: int

    def _pass(self) -> None:
        path = self.path.partition("?")[0]
        self.warped.asked[path] += 1
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = {"X-Consul-Token": self.headers.get("X-Consul-Token", "")}
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=WAIT_S)
        try:
            connection.request(self.command, self.path, body, token)
            response = connection.getresponse()
            told = Told(response.status, dict(response.getheaders()), response.read())
        except OSError:
            self.close_connection = True
            return
        finally:
            connection.close()
        with suppress(OSError):
            self.warped.warp(self.warped, self, path, told)

    do_GET = do_PUT = do_DELETE = _pass  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        """Nothing: what was asked is counted."""


def send(handler: http.server.BaseHTTPRequestHandler, told: Told, *, length: int | None = None) -> None:
    """The answer; length: said instead of the true one."""
    handler.send_response(told.status)
    for name, value in told.headers.items():
        if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(told.body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(told.body)


def honest(_warped: Warped, handler: http.server.BaseHTTPRequestHandler, _path: str, told: Told) -> None:
    """As it is."""
    send(handler, told)


def with_index(index: str | None) -> Warp:
    """Another X-Consul-Index in each answer; None: none."""
    return lambda _warped, handler, _path, told: send(handler, told.of(X_Consul_Index=index))


def with_body(body: bytes, kind: str = "application/json", status: int = 200) -> Warp:
    """Other words."""
    return lambda _warped, handler, _path, told: send(handler, told.of(Content_Type=kind)._replace(body=body, status=status))


def garbage(_warped: Warped, handler: http.server.BaseHTTPRequestHandler, _path: str, told: Told) -> None:
    """Noise, other each time."""
    send(handler, told._replace(body=os.urandom(1 + len(told.body))))


def truncated(_warped: Warped, handler: http.server.BaseHTTPRequestHandler, _path: str, told: Told) -> None:
    """Half of it, and then nothing more."""
    send(handler, told._replace(body=told.body[: len(told.body) // 2]), length=len(told.body) + 1)
    handler.close_connection = True


def half(_warped: Warped, handler: http.server.BaseHTTPRequestHandler, _path: str, told: Told) -> None:
    """Half of it, as if that were all."""
    send(handler, told._replace(body=told.body[: len(told.body) // 2]))


def endless(warped: Warped, handler: http.server.BaseHTTPRequestHandler, _path: str, told: Told) -> None:
    """More and more."""
    send(handler, told._replace(body=b"["), length=10**12)
    chunk = b'{"Node":"x","Address":"10.0.0.1"},' * 2000
    while not warped.is_ending:
        handler.wfile.write(chunk)


def slow(warped: Warped, handler: http.server.BaseHTTPRequestHandler, _path: str, told: Told) -> None:
    """A byte in a second."""
    send(handler, told._replace(body=b""), length=len(told.body))
    for byte in told.body:
        if warped.is_ending or warped.warp is not slow:
            break
        handler.wfile.write(bytes((byte,)))
        time.sleep(1)
    handler.close_connection = True


def resetting(_warped: Warped, handler: http.server.BaseHTTPRequestHandler, _path: str, _told: Told) -> None:
    """The connection ends without a word."""
    handler.close_connection = True


def flapping(warped: Warped, handler: http.server.BaseHTTPRequestHandler, path: str, told: Told) -> None:
    """Well for two seconds, gone for two."""
    (honest if int(time.monotonic()) // 2 % 2 else resetting)(warped, handler, path, told)


def emptied(nothing: bytes) -> Warp:
    """No host, no service, no instance; intentions as they are."""

    def warp(_warped: Warped, handler: http.server.BaseHTTPRequestHandler, path: str, told: Told) -> None:
        is_list = path.startswith(("/v1/health/service/", "/v1/catalog/nodes"))
        send(handler, told._replace(body=nothing) if is_list else told._replace(body=b"{}") if path == "/v1/catalog/services" else told)

    return warp
