"""A real Consul as the lab's catalog: a server in the hub, an agent of Consul's on each host, ACLs that deny what is not allowed."""

import http.client
import json
import os
import secrets
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nodeagent import limits
from nodeagent.control.json_http import exchange
from nodeagent.errors import CatalogError, CatalogTimeout, CatalogUnreachable
from nodeagent.lab import cgroup, enter
from nodeagent.lab.errors import CatalogAway, CatalogSilent, LabError
from nodeagent.lab.layout import Host
from nodeagent.lab.netns import connect_in
from nodeagent.lab.progress import Progress, Say
from nodeagent.lab.state import Holder

UNIT = "consul"
PORT = 8500
_KINDS: dict[type[CatalogError], type[LabError]] = {CatalogUnreachable: CatalogAway, CatalogTimeout: CatalogSilent}
_TOKEN = "management.token"  # noqa: S105 - a file's name
_RULES = """\
agent "{host}" {{ policy = "read" }}
node "{host}" {{ policy = "write" }}
node_prefix "" {{ policy = "read" }}
service_prefix "" {{ policy = "write" intentions = "read" }}
operator = "read"
key_prefix "nodeagent/config/" {{ policy = "read" }}
"""
"""Of a host's agents, Consul's and ours: README's, but for any service, as the lab's units name their services."""


def find_program(named: str) -> str:
    """Consul's program. named: by an operator; empty: the one in PATH.

    Raises:
        LabError: there is none; with the cure.
    """
    found = shutil.which(named or UNIT)
    if not found:
        raise LabError(f"{named or UNIT}: no such program; install Consul, or name its program in NODEAGENT_CONSUL (script/consul fetches 1.8.7)")
    return found


def start_server(program: str, hub: Host, holder: Holder, say: Say) -> None:
    """Starts the server in the hub, anew or with the data it has, and returns when it answers.

    Raises:
        LabError: it runs already, ended, or did not answer in time; with the end of its log.
    """
    if cgroup.is_populated(hub.unit_cgroup(UNIT)):
        raise LabError("the catalog runs already; use: nodeagent lab catalog restart")
    settings = _settings(hub, hub, management_token(hub)) | {"server": True, "bootstrap_expect": 1}
    settings["acl"]["tokens"]["master"] = management_token(hub)
    _start(program, hub, holder, settings)
    _wait(hub, say, lambda: call(hub, holder, management_token(hub), "GET", "/v1/catalog/nodes"), "Consul's server in the hub")


def start_client(program: str, hub: Host, hub_holder: Holder, host: Host, holder: Holder, say: Say) -> str:
    """Starts Consul's agent on a host, and returns when the catalog shows that host; gives the token of the host's agents."""
    token = _make_token(hub, hub_holder, host)
    _start(program, host, holder, _settings(hub, host, token))

    def look() -> bool:
        return bool(call(hub, hub_holder, management_token(hub), "GET", f"/v1/catalog/node/{host.name}"))

    _wait(host, say, look, f"Consul's agent on {host.name}")
    return token


def management_token(hub: Host) -> str:
    """The token that may do everything; made when it is first asked for."""
    path = _directory(hub) / _TOKEN
    if not path.exists():
        _write(path, str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)))
    return path.read_text(encoding="ascii").strip()


def call(at: Host, holder: Holder, token: str, method: str, path: str, body: object = None) -> Any:
    """What Consul's agent on `at` answers, decoded from JSON.

    Raises:
        CatalogAway, CatalogSilent: it does not answer.
        LabError: it refuses; with its words.
    """
    try:
        return exchange(_Connection(holder.pid), token, method, path, body)
    except CatalogError as error:
        raise _KINDS.get(type(error), LabError)(f"Consul on {at.name}: {error}") from error


class _Connection(http.client.HTTPConnection):
    """HTTP to the loopback of a host's network."""

    def __init__(self, holder_pid: int) -> None:
        super().__init__("127.0.0.1", PORT, timeout=limits.CATALOG_CONNECT_S)
        self._holder_pid = holder_pid

    def connect(self) -> None:
        """Connects in the namespace."""
        self.sock = connect_in(self._holder_pid, (self.host, self.port), limits.CATALOG_CONNECT_S)


def _settings(hub: Host, host: Host, token: str) -> dict[str, Any]:
    return {
        "node_name": host.name, "datacenter": "dc1", "bind_addr": host.ipv4, "client_addr": "127.0.0.1", "log_level": "warn",
        "data_dir": str(_directory(host) / "data"), "retry_join": [hub.ipv4], "retry_interval": "1s", "leave_on_terminate": False,
        "skip_leave_on_interrupt": True, "connect": {"enabled": True}, "disable_update_check": True,
        "ports": {"http": PORT, "dns": -1, "grpc": -1, "serf_wan": -1},
        "acl": {"enabled": True, "default_policy": "deny", "tokens": {"agent": token}},
    }  # fmt: skip


def _start(program: str, host: Host, holder: Holder, settings: dict[str, Any]) -> None:
    path = _directory(host) / "consul.json"
    _write(path, json.dumps(settings, indent=2))
    command = [program, "agent", "-config-file", str(path)]
    enter.start_daemon(host.unit_cgroup(UNIT), enter.inside(holder.pid, command, at="/"), host.log(UNIT), enter.service_environment())


def _make_token(hub: Host, holder: Holder, host: Host) -> str:
    root, name = management_token(hub), f"agents-of-{host.name}"
    call(hub, holder, root, "PUT", "/v1/acl/policy", {"Name": name, "Rules": _RULES.format(host=host.name)})
    return str(call(hub, holder, root, "PUT", "/v1/acl/token", {"Description": name, "Policies": [{"Name": name}]})["SecretID"])


def _wait(host: Host, say: Say, look: Callable[[], object], what: str) -> None:
    deadline, progress = time.monotonic() + limits.LAB_START_S, Progress(say)
    while True:
        try:
            if look():
                return
            why = "it is not shown yet"
        except (LabError, OSError) as error:
            why = str(error)
        if not cgroup.is_populated(host.unit_cgroup(UNIT)) or time.monotonic() > deadline:
            raise LabError(f"{what} did not start ({why}); its log ends:\n{enter.tail(host.log(UNIT), limits.LAB_LOG_LINES)}")
        progress.waits_for(f"{what} does not answer yet: {why}")
        time.sleep(0.05)


def _directory(host: Host) -> Path:
    path = host.directory / UNIT
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
