"""A catalog as a real process on loopback, and the plainest client there is."""

import contextlib
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

READY_S = 30.0  # it takes half a second
ANSWER_S = 60.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict
    text: str

    @property
    def json(self):
        return json.loads(self.text)

    @property
    def index(self):
        return int(self.headers["X-Consul-Index"])


@dataclass(frozen=True)
class Client:
    """One caller of a catalog, this one or Consul's own."""

    address: str
    token: str
    tls: ssl.SSLContext | None = None

    def call(self, method, path, body=None, *, token=None):
        host, _, port = self.address.rpartition(":")
        if self.tls:
            connection = http.client.HTTPSConnection(host, int(port), timeout=ANSWER_S, context=self.tls)
        else:
            connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_S)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.closing(connection):
            connection.request(method, path, data, {"X-Consul-Token": self.token if token is None else token})
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())

    def get(self, path, **more):
        return self.call("GET", path, **more)

    def put(self, path, body=None, **more):
        return self.call("PUT", path, body, **more)

    def delete(self, path, **more):
        return self.call("DELETE", path, **more)

    def ok(self, method, path, body=None, **more):
        """The decoded answer of a call that must succeed."""
        answer = self.call(method, path, body, **more)
        assert answer.status == 200, f"{method} {path}: {answer.status} {answer.text}"
        return json.loads(answer.text) if answer.text else None


class Process:
    """`nodeagent catalog`, started and ended by whoever holds this."""

    def __init__(self, data: Path, *options: str, env=None):
        self.data = data
        self.log = data.with_name(data.name + ".log").open("ab")
        listen = [] if "--listen" in options else ["--listen", "127.0.0.1:0"]
        argv = [sys.executable, "-m", "nodeagent", "catalog", "--data", str(data), *listen, *options]
        self.process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=self.log, env={**os.environ, **(env or {})}
        )
        self.ready = self._first_line()

    def client(self, token=None):
        found = re.search(r"ready on (https?)://(\S+) ", self.ready)
        assert found, f"{self.ready!r} {self.errors()}"
        tls = ssl.create_default_context(cafile=self.data / "tls-ca.pem") if found[1] == "https" else None
        if token is None:
            token = (self.data / "management.token").read_text().strip()
        return Client(found[2], token, tls)

    def errors(self):
        return Path(self.log.name).read_text()

    def end(self, number=signal.SIGTERM):
        """Its exit status after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(READY_S)
        self.process.stdout.close()
        self.log.close()
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.log.closed:
            self.end(signal.SIGKILL)

    def _first_line(self):
        killer = threading.Timer(READY_S, self.process.kill)  # ends the read below if nothing is ever said
        killer.start()
        try:
            return self.process.stdout.readline().decode()
        finally:
            killer.cancel()


def token_command(data, *argv):
    """`nodeagent catalog token …` beside the running server."""
    command = [sys.executable, "-m", "nodeagent", "catalog", "--data", str(data), "token", *argv]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=READY_S).stdout.strip()
