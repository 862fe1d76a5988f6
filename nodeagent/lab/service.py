"""Services of a lab: starting a command as a unit, waiting for its port, stopping it."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodeagent import limits
from nodeagent.lab import cgroup, enter, network
from nodeagent.lab.errors import LabError
from nodeagent.lab.layout import Host
from nodeagent.lab.state import Holder


@dataclass(frozen=True, slots=True)
class Start:
    """What is to run, where, as whom."""

    host: Host
    service: str
    command: Sequence[str]
    port: int = 0
    user: str = ""


def start_service(start: Start, holder: Holder, env: Mapping[str, str]) -> None:
    """Starts the command in its unit's cgroup and returns when its port listens (or, without one, at once).

    Raises:
        LabError: the unit or the port is in use, or the command ended first; with the end of its log.
    """
    host, unit = start.host, start.host.unit_cgroup(start.service)
    if cgroup.is_populated(unit):
        raise LabError(f"{start.service} runs on {host.name} already; use --replace, or `nodeagent lab stop` first")
    if start.port and start.port in _listening(holder):
        raise LabError(f"port {start.port} on {host.name} is taken by another process; choose another --port")
    if not shutil.which(start.command[0], path=env.get("PATH")):
        raise LabError(f"{start.command[0]}: no such program on this machine; is its package installed?")
    cgroup.make_afresh(unit)
    host.log(start.service).write_bytes(b"")
    command = enter.inside(holder.pid, start.command, user=start.user, at=str(Path.cwd()))
    enter.start_daemon(unit, command, host.log(start.service), env)
    _wait_started(start, holder)


def stop_service(host: Host, service: str) -> None:
    """Ends every process of the unit, with grace, and removes its cgroup as systemd does."""
    cgroup.terminate(host.unit_cgroup(service), limits.LAB_STOP_S)
    cgroup.destroy(host.unit_cgroup(service))


def is_running(host: Host, service: str) -> bool:
    """Whether any process of the unit lives."""
    return cgroup.is_populated(host.unit_cgroup(service))


def _wait_started(start: Start, holder: Holder) -> None:
    """Returns when the port listens; without a port at once: a job may be over already."""
    unit, deadline = start.host.unit_cgroup(start.service), time.monotonic() + limits.LAB_PORT_S
    while start.port and start.port not in _listening(holder):
        if not cgroup.is_populated(unit):
            _fail(start, f"ended before port {start.port} listened")
        if time.monotonic() > deadline:
            _fail(start, f"does not listen on port {start.port} after {limits.LAB_PORT_S:g} s")
        time.sleep(0.01)


def _fail(start: Start, what: str) -> None:
    log = enter.tail(start.host.log(start.service), limits.LAB_LOG_LINES)
    stop_service(start.host, start.service)
    raise LabError(f"{start.service} on {start.host.name} {what}; its log ends:\n{log}")


def _listening(holder: Holder) -> frozenset[int]:
    tables = (Path(f"/proc/{holder.pid}/net/{name}").read_text(encoding="ascii") for name in ("tcp", "tcp6"))
    return frozenset[int]().union(*(network.listening_ports(table) for table in tables))
