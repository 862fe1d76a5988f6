"""What `lab up` writes into a host's /etc/nodeagent, and who may read it."""

import os
from pathlib import Path

from nodeagent.lab import layout
from nodeagent.lab.catalogs import Introduction
from nodeagent.lab.layout import Host
from nodeagent.lab.state import LabState

_RUN_MODE = 0o1775  # root's; control makes its socket there, and removes nothing of root's
CONFIG = "/etc/nodeagent/nodeagent.toml"
_TOML = """\
# Written by `nodeagent lab up`.
[host]
name = "{host.name}"
addresses = ["{host.ipv4}", "{host.ipv6}"]
mode = "{state.mode}"
workers = {state.workers}
control_user = {control}
worker_user = {worker}

[catalog]
address = "{known.address}"
token_file = "/etc/nodeagent/node.token"
{pin}
[intercept]
backend = "{state.backend}"
cgroup_root = "{host.cgroup}"

[identity]
units = "any"
"""


def host_toml(state: LabState, host: Host, known: Introduction) -> str:
    """The host's nodeagent.toml."""
    pin = 'ca_file = "/etc/nodeagent/catalog-ca.pem"\n' if known.ca_pem else ""
    return _TOML.format(host=host, state=state, known=known, pin=pin, control=layout.CONTROL_UID, worker=layout.WORKER_UID)


def make_directories(host: Host) -> None:
    """The host's own directories, for the users that write to them."""
    host.directory.mkdir(parents=True)
    (host.directory / "log").mkdir()
    for name in layout.OWN_DIRECTORIES:
        host.own(name).mkdir()
    control = layout.CONTROL_UID
    for name, owner, group, mode in (
        ("run", 0, control, _RUN_MODE),
        ("state", control, 0, 0o770),
        ("etc", 0, 0, 0o755),
    ):
        os.chown(host.own(name), owner, group)
        host.own(name).chmod(mode)  # mkdir's mode is cut by the operator's umask


def make_hub_directories(hub: Host) -> None:
    """The hub's directories: it has logs and the catalog's data, nothing else of its own."""
    (hub.directory / "log").mkdir(parents=True)


def write_host(state: LabState, host: Host, known: Introduction) -> None:
    """Everything an agent and an operator need on the host; each token is readable by its user alone."""
    etc = host.own("etc")
    _write(etc / "nodeagent.toml", host_toml(state, host, known), mode=0o644)
    if known.ca_pem:
        _write(etc / "catalog-ca.pem", known.ca_pem, mode=0o644)
    _write(etc / "node.token", known.node_token + "\n", mode=0o400, owner=layout.CONTROL_UID)
    _write(etc / "operator.token", known.operator_token + "\n", mode=0o600)


def _write(path: Path, text: str, *, mode: int, owner: int = 0) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchown(descriptor, owner, owner)
        os.fchmod(descriptor, mode)
        file.write(text)
