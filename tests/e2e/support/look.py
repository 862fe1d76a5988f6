"""What a host's agent says of itself, and what its processes are, as an operator would look."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from nodeagent.control.report import ConnectionsAnswer, ServicesAnswer
from nodeagent.lab import cgroup, layout
from nodeagent.lab.ask import ask_agent
from nodeagent.lab.lab import Lab
from tests.support.eventually import eventually

WITHIN_S = 10.0  # what is promised is one second


def ask(lab: Lab, host: str, *command: str) -> Any:
    """The JSON that `nodeagent COMMAND -o json` prints on a host."""
    done = lab.exec(host, "nodeagent", *command, "-o", "json")
    assert done.stdout, f"{command}: {done.returncode} {done.stderr}"
    return json.loads(done.stdout)


def status(lab: Lab, host: str) -> dict[str, Any]:
    """`nodeagent status`."""
    answer: dict[str, Any] = ask(lab, host, "status")
    return answer


def total(lab: Lab, host: str, figure: str) -> int:
    """A figure of `status`, of all workers together."""
    return sum(worker[figure] for worker in status(lab, host)["workers"])


def open_rows(lab: Lab, host: str) -> list[dict[str, Any]]:
    """The connections that are open."""
    rows: list[dict[str, Any]] = ask(lab, host, "connections", "--limit", "5000")["connections"]
    return rows


def log_lines(lab: Lab, host: str, event: str = "connection_closed") -> list[dict[str, Any]]:
    """The lines of that event in the agent's log; every whole line is JSON, and the last may still be on its way."""
    whole = lab.host(host).log(layout.AGENT).read_text().rpartition("\n")[0]
    lines = [json.loads(line) for line in whole.splitlines()]
    return [line for line in lines if line["event"] == event]


def with_facts(lab: Lab, host: str, **facts: object) -> list[dict[str, Any]]:
    """The log lines of ended connections that have these facts, now."""
    return [line for line in log_lines(lab, host) if facts.items() <= line.items()]


def closed(lab: Lab, host: str, count: int, **facts: object) -> list[dict[str, Any]]:
    """The log lines of ended connections that have these facts, once there are `count`; exactly so many."""
    what = f"{count} lines with {facts} on {host}"
    eventually(lambda: len(with_facts(lab, host, **facts)) >= count, WITHIN_S, what)
    rows = with_facts(lab, host, **facts)
    assert len(rows) == count, rows
    return rows


def comm(pid: int) -> str:
    """A process's name; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def state(pid: int) -> str:
    """T: it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def worker_pids(lab: Lab, host: str) -> dict[int, int]:
    """Number and pid of those that serve. Whoever is ready first serves, and the last is the spare: any of them."""
    return {w["number"]: w["pid"] for w in status(lab, host)["workers"] if w["state"] == "serving"}


def carriers(lab: Lab, host: str, **facts: object) -> dict[int, int]:
    """Number and pid of the workers that the ids of open connections with these facts name."""
    tags = {row["id"].partition("-")[0] for row in open_rows(lab, host) if facts.items() <= row.items()}
    return {w["number"]: w["pid"] for w in status(lab, host)["workers"] if w["tag"] in tags}


def first_worker(lab: Lab, host: str) -> tuple[int, int]:
    """Number and pid of one that serves."""
    return min(worker_pids(lab, host).items())


def kill_worker(lab: Lab, host: str) -> tuple[int, int]:
    """SIGKILL to one that serves; its number, and the pid that it had."""
    number, pid = first_worker(lab, host)
    assert pid in lab.pids(host, layout.AGENT)
    os.kill(pid, signal.SIGKILL)
    return number, pid


def is_replaced(lab: Lab, host: str, gone: set[int]) -> bool:
    """Whether as many serve as shall, and none of these pids."""
    now = set(worker_pids(lab, host).values())
    return len(now) == lab.state.workers and not now & gone


def rss_bytes(pid: int) -> int:
    """Memory of a process that is not shared with files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


def kill_catalog(lab: Lab) -> None:
    """SIGKILL to the lab's catalog."""
    cgroup.kill(lab.host(layout.HUB).unit_cgroup("nodeagent-catalog"))


def allow(lab: Lab, source: str, destination: str) -> None:
    """An intention by the command line, in force on every host."""
    decide(lab, "allow", source, destination)


def decide(lab: Lab, verb: str, source: str, destination: str) -> None:
    """`nodeagent intention VERB`, and every agent has it."""
    done = lab.exec("host1", "nodeagent", "intention", verb, source, destination)
    assert done.returncode == 0, done.stderr
    for host in lab.state.members:
        eventually(lambda at=host.name: _knows(lab, at, verb, source, destination), WITHIN_S, f"{verb} on {host.name}")


def _knows(lab: Lab, host: str, verb: str, source: str, destination: str) -> bool:
    place = lab.host(host)
    answer = ask_agent(place, "/v1/services", ServicesAnswer)
    rows = [*answer.wildcards, *(row for service in answer.services for row in service.intentions)]
    found = {row.action for row in rows if (row.source, row.destination) == (source, destination)}
    if found != ({verb} if verb != "delete" else set()):
        return False
    # A worker answers its questions and takes its changes in one order: after this answer it has the change.
    return ask_agent(place, "/v1/connections?limit=1", ConnectionsAnswer).unanswered == 0
