"""Services of a lab: starting a command as a unit, waiting until it listens, stopping it."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

from nodeagent import limits
from nodeagent.lab import cgroup, enter, network
from nodeagent.lab.errors import LabError
from nodeagent.lab.launch import Launched
from nodeagent.lab.layout import Host
from nodeagent.lab.progress import Progress, Say
from nodeagent.lab.state import Holder


@dataclass(frozen=True, slots=True)
class Start:
    """What is to run, where, as whom."""

    host: Host
    service: str
    command: Sequence[str]
    port: int = 0
    user: str = ""


class Started(NamedTuple):
    """What became of it."""

    addresses: tuple[str, ...] = ()
    """The host's addresses at which it listens; empty without a port."""
    is_over: bool = False
    """It did what it had to do, and ended well."""


def start_service(start: Start, holder: Holder, env: Mapping[str, str], say: Say) -> Started:
    """Starts the command in its unit's cgroup and returns when its port listens; without one, when it goes on or is done.

    Raises:
        LabError: the unit or the port is in use, or the command failed; with the end of its log.
    """
    host, unit = start.host, start.host.unit_cgroup(start.service)
    if cgroup.is_populated(unit):
        raise LabError(f"{start.service} runs on {host.name} already; use --replace, or `nodeagent lab stop` first")
    if start.port and _listened(start, holder):
        raise LabError(f"port {start.port} on {host.name} is taken by another process; choose another --port")
    if not shutil.which(start.command[0], path=env.get("PATH")):
        raise LabError(f"{start.command[0]}: no such program on this machine; is its package installed?")
    cgroup.make_afresh(unit)
    host.log(start.service).write_bytes(b"")
    command = enter.inside(holder.pid, start.command, user=start.user, at=str(Path.cwd()))
    with Launched(enter.procs_file(unit), command, host.log(start.service), env) as launched:
        if start.port:
            return Started(_wait_listening(start, holder, launched, Progress(say)))
        return Started(is_over=_watch(start, launched))


def stop_service(host: Host, service: str, say: Say = lambda _: None) -> None:
    """Ends every process of the unit, with grace, and removes its cgroup as systemd does."""
    unit = host.unit_cgroup(service)
    if not cgroup.terminate(unit, limits.LAB_SAY_S):
        say(f"{service} goes on after SIGTERM; it is killed when {limits.LAB_STOP_S:g} s are over")
        cgroup.wait_empty(unit, limits.LAB_STOP_S - limits.LAB_SAY_S)
    cgroup.destroy(unit)


def is_running(host: Host, service: str) -> bool:
    """Whether any process of the unit lives."""
    return cgroup.is_populated(host.unit_cgroup(service))


def loopback_complaint(host: Host, listened: frozenset[str], port: int) -> str:
    """What to say of a command that listens where no other host reaches it."""
    where = " and ".join(sorted(listened))
    return (
        f"listens at {where} alone on port {port}, where nobody reaches it by {host.ipv4} or {host.ipv6}; "
        "make it listen on every address (such as --bind ::)"
    )


def _watch(start: Start, launched: Launched) -> bool:
    """Whether the command is over already, and ended well; returns when that is known, or when it goes on."""
    status = launched.try_status(limits.LAB_ENDED_S)
    if status is None or is_running(start.host, start.service):  # what forks and ends has left its server behind
        return False
    if status:
        _fail(start, f"ended with status {status}")
    return True


def _wait_listening(start: Start, holder: Holder, launched: Launched, progress: Progress) -> tuple[str, ...]:
    """The host's addresses at which the command listens, when it does."""
    host, began = start.host, time.monotonic()
    heard_at: float | None = None
    while True:
        listened, now = _listened(start, holder), time.monotonic()
        found = network.answering(host, listened)
        heard_at = (heard_at or now) if listened else None
        listening_s = now - heard_at if heard_at else 0.0  # more addresses may come
        if len(found) == 2 or (found and listening_s > limits.LAB_LISTEN_MORE_S):
            return found
        if not is_running(host, start.service):
            status = launched.try_status(limits.LAB_ENDED_S)
            _fail(start, f"ended{'' if status is None else f' with status {status}'} before port {start.port} listened")
        if listened and not found and listening_s > limits.LAB_LOOPBACK_S:
            _fail(start, loopback_complaint(host, listened, start.port))
        if now - began > limits.LAB_PORT_S:
            _fail(start, f"does not listen on port {start.port} after {limits.LAB_PORT_S:g} s")
        so_far = f"listens at {' and '.join(sorted(listened))} alone" if listened else "does not listen"
        progress.waits_for(f"{start.service} on {host.name} {so_far} on port {start.port}")
        time.sleep(0.01)


def _fail(start: Start, what: str) -> NoReturn:
    log = enter.tail(start.host.log(start.service), limits.LAB_LOG_LINES)
    stop_service(start.host, start.service)
    raise LabError(f"{start.service} on {start.host.name} {what}; its log ends:\n{log}")


def _listened(start: Start, holder: Holder) -> frozenset[str]:
    """Where on the host somebody listens at the port; `ss` alone tells `::` for IPv6 from `::` for both families."""
    tables = (Path(f"/proc/{holder.pid}/net/{name}").read_text(encoding="ascii") for name in ("tcp", "tcp6"))
    if not any(start.port in network.listening_ports(table) for table in tables):
        return frozenset()
    ss = ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--", "ss", "-Hltn", f"sport = :{start.port}"]
    return network.listening_addresses(enter.run_tool(ss))
