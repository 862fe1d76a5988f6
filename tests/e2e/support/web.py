"""A service that speaks http in a lab: nginx with files, raw requests of a unit, and its permissions."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodeagent.control.report import ConnectionsAnswer, ServicesAnswer
from nodeagent.lab.ask import ask_agent
from nodeagent.lab.lab import Lab
from tests.e2e.support.daemons import directory_of
from tests.e2e.support.waiting import wait_until

PORT = 8081
_CONF = """
daemon off; pid {directory}/nginx.pid; error_log stderr; user www-data; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    log_format plain '$remote_addr $connection $connection_requests "$request" $status';
    access_log {directory}/access.log plain;
    client_max_body_size 1g; client_body_temp_path {directory}/body; keepalive_requests {keepalive};
    server {{
        listen {port}; listen [::]:{port};
        location / {{ return 200 "{told}\\n"; }}
        location /files/ {{ alias {directory}/files/; dav_methods PUT; create_full_put_path on; }}
    }}
}}
"""
_TOLD = "cert=$http_x_forwarded_client_cert hops=$http_x_nodeagent_hops for=$http_x_forwarded_for id=$http_x_request_id spiffe=$http_x_spiffe_id note=$http_x_note"


@contextmanager
def nginx(lab: Lab, host: str, *, name: str = "web", port: int = PORT, keepalive: int = 100_000) -> Iterator[Path]:
    """Its directory: below `files` what is at /files/. keepalive: requests that it takes on one connection."""
    with directory_of("www-data") as directory:
        for place in (directory / "files", directory / "files" / "private"):
            place.mkdir()
            place.chmod(0o777)
        conf = _CONF.format(directory=directory, port=port, keepalive=keepalive, told=_TOLD)
        (directory / "nginx.conf").write_text(conf)
        lab.run(host, name, ["nginx", "-e", "stderr", "-c", str(directory / "nginx.conf")], port=port, protocol="http")
        try:
            yield directory
        finally:
            lab.stop(host, name)


def permit(lab: Lab, service: str, source: str, permissions: list[dict]) -> None:
    """What `source` may ask of `service`; in force in every worker when this returns."""
    entry = {"Kind": "service-intentions", "Name": service, "Sources": [{"Name": source, "Permissions": permissions}]}
    before = {host.name: generation(lab, host.name) for host in lab.state.members}
    lab.catalog("PUT", "/v1/config", entry)
    for host, known in before.items():
        wait_until(lambda host=host, known=known: generation(lab, host) > known, f"permissions of {service} on {host}")
    settle(lab)


def settle(lab: Lab) -> None:
    """Every worker decides by what its agent knows: it answers questions and takes changes in one order."""
    for host in lab.state.members:
        wait_until(lambda host=host: ask_agent(host, "/v1/connections?limit=1", ConnectionsAnswer).unanswered == 0, f"workers of {host.name}")


def generation(lab: Lab, host: str) -> int:
    """Of the snapshot that the host's agent has compiled."""
    return ask_agent(lab.host(host), "/v1/services", ServicesAnswer).generation


def ask(sock: socket.socket, request: bytes) -> tuple[int, bytes, bytes]:
    """Status, head and body of the answer to one raw request; the connection stays."""
    sock.sendall(request)
    return answer(sock)


def answer(sock: socket.socket, *, to_head: bool = False) -> tuple[int, bytes, bytes]:
    """The next one."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        data = sock.recv(1)
        assert data, f"ended after {heard!r}"
        heard += data
    lowered = heard.lower()
    length = int(lowered.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    if b"transfer-encoding: chunked" in lowered:
        return int(heard[9:12]), heard, _chunks(sock)
    return int(heard[9:12]), heard, b"" if to_head else _exactly(sock, length)


def _chunks(sock: socket.socket) -> bytes:
    body = b""
    while size := int(_line(sock), 16):
        body += _exactly(sock, size)
        _line(sock)
    while _line(sock):
        pass
    return body


def _line(sock: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        line += _exactly(sock, 1)
    return line[:-2]


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"ended after {len(data)} of {size} bytes"
        data += piece
    return data
