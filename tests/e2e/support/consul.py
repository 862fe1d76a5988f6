"""A real Consul 1.8.7 on loopback: fetched by script/consul, started in dev mode, with or without ACLs."""

import contextlib
import functools
import json
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import NO_CONSUL
from tests.e2e.catalog_process import Client

SCRIPT = Path(__file__).parents[3] / "script" / "consul"
MANAGEMENT = "11111111-1111-1111-1111-111111111111"
READY_S = 30.0  # it takes half a second
FETCH_S = 120.0


@functools.cache
def _fetched():
    done = subprocess.run([SCRIPT], capture_output=True, text=True, timeout=FETCH_S, check=False)
    return done.stdout.strip(), done.stderr.strip()


def binary():
    """The program; where Debian has it no more, the test says so and ends."""
    path, why = _fetched()
    if not path:
        pytest.skip(f"{NO_CONSUL}: {why}")
    return path


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Consul:
    """One agent, server and client in one, started and ended by whoever holds this."""

    def __init__(self, directory, *, acl=False, node="agent", http=None, **settings):
        self.http = http or free_port()
        self.token = MANAGEMENT if acl else ""
        self.node = node
        ports = {"http": self.http, "server": free_port(), "serf_lan": free_port(), "serf_wan": -1, "dns": -1, "grpc": -1}
        config = {"ports": ports, "node_name": node, "bind_addr": "127.0.0.1", "log_level": "warn", **settings}
        if acl:
            config["acl"] = {"enabled": True, "default_policy": "deny", "tokens": {"master": MANAGEMENT, "agent": MANAGEMENT}}
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "consul.json").write_text(json.dumps(config))
        self._log = directory / "consul.log"
        with self._log.open("ab") as log:
            argv = [binary(), "agent", "-dev", "-config-file", directory / "consul.json"]
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)

    @property
    def address(self):
        return f"127.0.0.1:{self.http}"

    def client(self, token=None):
        return Client(self.address, self.token if token is None else token)

    def wait(self):
        """Until it has a leader, knows its tokens, and shows its own node."""
        deadline = time.monotonic() + READY_S
        while not self._is_ready():
            is_hopeless = self.process.poll() is not None or time.monotonic() > deadline
            assert not is_hopeless, self._log.read_text()
            time.sleep(0.05)
        return self

    def _is_ready(self):
        try:
            answer = self.client().get(f"/v1/catalog/node/{self.node}")
        except OSError:
            return False
        return answer.status == 200 and answer.json is not None and "consul" in answer.json["Services"]

    def make_token(self, name, rules):
        """A token with these ACL rules; gives its secret."""
        self.client().ok("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        return self.client().ok("PUT", "/v1/acl/token", {"Policies": [{"Name": name}]})["SecretID"]

    def end(self):
        self.process.kill()
        self.process.wait(READY_S)

    def __enter__(self):
        return self.wait()

    def __exit__(self, *_):
        self.end()


@contextlib.contextmanager
def dev_mode(directory):
    with Consul(directory) as consul:
        yield consul.client()


@contextlib.contextmanager
def default_deny(directory):
    with Consul(directory, acl=True) as consul:
        yield consul.client()
