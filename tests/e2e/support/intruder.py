"""A peer that holds a good certificate and bad intentions: HTTP/2 sessions with a host's agent, frame by frame."""

import os
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import ngh2

from certs.csr import new_key_and_csr
from certs.spiffe import service_id, service_sni
from nodeagent import limits
from nodeagent.lab.lab import Lab
from tests.e2e.support.unit import DEADLINE_S, Unit

Headers = list[tuple[bytes, bytes]]
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6


class Intruder:
    """Someone on host1 who was given a certificate for `shop`. Its connections end with its `with`."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self._lab = lab
        self._unit = Unit(lab, "host1")
        (root,) = (answer := lab.catalog("GET", "/v1/connect/ca/roots"))["Roots"]
        self._domain = answer["TrustDomain"]
        self._file = directory / "shop.pem"
        self._root = root["RootCert"]

    def __enter__(self) -> Self:
        key, csr = new_key_and_csr(service_id(self._domain, "dc1", "shop"))
        signed = self._lab.catalog("PUT", "/v1/nodeagent/sign", {"CSR": csr}, token=self._lab.node_token("host1"))
        with os.fdopen(os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(key + signed["CertPEM"])
        return self

    def __exit__(self, *_: object) -> None:
        self._unit.__exit__()
        self._file.unlink()

    def session(self, service: str = "web", *, window: int = 65_535) -> "Session":
        """A tunnel to that service on host2."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self._root)
        context.load_cert_chain(self._file)
        context.set_alpn_protocols(["h2"])
        raw = self._unit.connect(self._lab.host("host2").ipv4, limits.TUNNEL_PORT)
        return Session(context.wrap_socket(raw, server_hostname=service_sni(service, "dc1", self._domain)), window)


class Session:
    """One tunnel, with the library's help where manners are wanted, and raw bytes where not."""

    def __init__(self, sock: ssl.SSLSocket, window: int) -> None:
        self.sock = sock
        self.h2 = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(auto_window_update=False))
        self.h2.initiate_connection({ngh2.Setting.INITIAL_WINDOW_SIZE: window})
        self.h2.set_local_window_size(2**31 - 1)
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def flush(self) -> None:
        """Sends what the library wants to send."""
        while data := self.h2.data_to_send():
            self.sock.sendall(data)

    def connect(self, authority: str) -> int:
        """A CONNECT stream, not waited for."""
        return self.ask([(b":method", b"CONNECT"), (b":authority", authority.encode())])

    def ask(self, headers: Headers) -> int:
        """A stream that begins with these headers."""
        stream: int = self.h2.send_request(headers)
        self.flush()
        return stream

    def status(self, stream: int) -> bytes:
        """The status with which a stream is answered; empty when there is no answer but an end."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline and (data := self._receive()):
            self.h2.receive_data(data)
            for event in self.h2.events():
                if getattr(event, "stream_id", 0) != stream:
                    continue
                if isinstance(event, ngh2.ResponseReceived):
                    return bytes(dict(event.headers)[b":status"])
                if isinstance(event, ngh2.StreamClosed):
                    return b""
            self.flush()
        return b""

    def raw(self, frames: Sequence[bytes]) -> bool:
        """Sends frames; whether the other end still took them."""
        try:
            self.sock.sendall(b"".join(frames))
        except OSError:
            return False
        return True

    def is_ended(self) -> bool:
        """Whether the other end closes; what it said before is dropped."""
        while self._receive():
            pass
        return True

    def _receive(self) -> bytes:
        """More bytes; none after the end. A TimeoutError says that there is no end."""
        try:
            return self.sock.recv(65_536)
        except (ConnectionError, ssl.SSLError):
            return b""


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """One HTTP/2 frame. Source: RFC 9113, 4.1."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
