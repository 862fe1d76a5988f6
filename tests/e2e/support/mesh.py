"""What the agents of a lab say, and how policy is set in it."""

import re
from collections import Counter
from pathlib import Path

from nodeagent import limits
from nodeagent.control.report import ConnectionsAnswer, ServicesAnswer, Status, WorkerPart
from nodeagent.lab.ask import ask_agent
from nodeagent.lab.lab import Lab
from nodeagent.lab.layout import Host
from nodeagent.model.outcome import ConnectionRow
from tests.e2e.support.waiting import wait_until

_OPENED = re.compile(r'^nodeagent_opened_total{direction="(\w+)"} (\S+)$', re.MULTILINE)


def allow(lab: Lab, source: str, destination: str) -> None:
    """Lets `source` call `destination`; in force in every worker of every host when this returns."""
    _intend(lab, "allow", source, destination)


def deny(lab: Lab, source: str, destination: str) -> None:
    """Forbids it, as surely."""
    _intend(lab, "deny", source, destination)


def closed_rows(lab: Lab, host: str) -> list[ConnectionRow]:
    """Connections that ended lately, the newest first."""
    path = f"/v1/connections?limit={limits.API_ROWS_MAX}&closed=1"
    return ask_agent(lab.host(host), path, ConnectionsAnswer).connections


def calls_since(lab: Lab, host: str, began: float, count: int = 1) -> list[ConnectionRow]:
    """So many connections that workloads of the host have opened since then, when all of them have ended."""
    found: list[ConnectionRow] = []

    def have_ended() -> bool:
        rows = closed_rows(lab, host)
        found[:] = [row for row in rows if row.direction == "outbound" and row.opened_at >= began]
        return len(found) >= count

    wait_until(have_ended, f"{count} connections have ended on {host}")
    assert len(found) == count
    return found


def workers(lab: Lab, host: str) -> list[WorkerPart]:
    """The workers of `nodeagent status`, without the spare."""
    return [worker for worker in with_spare(lab, host) if worker.state != "standby"]


def with_spare(lab: Lab, host: str) -> list[WorkerPart]:
    """All of them."""
    return ask_agent(lab.host(host), "/v1/status", Status).workers


def all_workers(lab: Lab) -> list[WorkerPart]:
    """Of all hosts."""
    return [worker for host in lab.state.members for worker in workers(lab, host.name)]


def opened(lab: Lab, host: str) -> Counter[str]:
    """Connections that the agent of a host has taken since it started, by direction; up to two seconds old."""
    done = lab.exec(host, "curl", "-sSf", f"http://127.0.0.1:{limits.METRICS_PORT}/metrics")
    assert done.returncode == 0, done.stderr
    return Counter({name: int(float(count)) for name, count in _OPENED.findall(done.stdout)})


def wait_quiet(lab: Lab) -> None:
    """Until no agent has a connection, a stream in a tunnel, or a byte for one: nothing leaks."""
    hosts = lab.state.members
    wait_until(lambda: not any(_open_now(host) for host in hosts), "all connections have ended at all agents")
    wait_until(
        lambda: not any(worker.connections or worker.streams or worker.buffered for worker in all_workers(lab)),
        "no worker has a stream or holds a byte",
    )


def pss_kib(pid: int) -> int:
    """What memory of this machine a process takes up: shared pages are divided among those who share them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _intend(lab: Lab, action: str, source: str, destination: str) -> None:
    done = lab.exec("host1", "nodeagent", "intention", action, source, destination)
    assert done.returncode == 0, done.stderr
    for host in lab.state.members:
        wait_until(
            lambda host=host: _is_in_force(host, (source, action), destination), f"{action} {source} -> {destination}"
        )


def _open_now(host: Host) -> int:
    """Connections, counted by the workers now; the figures of `status` are up to a second old."""
    answer = ask_agent(host, "/v1/connections?limit=1", ConnectionsAnswer)
    return answer.total + answer.unanswered


def _is_in_force(host: Host, wanted: tuple[str, str], destination: str) -> bool:
    services = ask_agent(host, "/v1/services", ServicesAnswer).services
    known = {(entry.source, entry.action) for part in services if part.name == destination for entry in part.intentions}
    if wanted not in known:
        return False
    # A worker answers its questions and takes its changes in one order: after this answer it has the change.
    return ask_agent(host, "/v1/connections?limit=1", ConnectionsAnswer).unanswered == 0
