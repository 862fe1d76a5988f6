"""A host's agent started by the test instead of the lab: with limits, or a log, of its own."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from nodeagent.lab import agent, enter, layout
from nodeagent.lab.lab import Lab
from nodeagent.lab.settings import CONFIG
from tests.support.eventually import eventually

HEALTHY_S = 30.0


@contextmanager
def agent_by_hand(
    lab: Lab, host: str, *, through: Sequence[str] = (), log: int | IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Instead of the lab's, healthy and started `through` another program; afterwards the lab's runs again."""
    place, holder = lab.host(host), lab.state.holder(lab.host(host))
    lab.stop_agent(host)
    command = enter.inside(holder.pid, [*through, enter.nodeagent_command(), "run", "--config", CONFIG], at="/")
    with place.log(layout.AGENT).open("ab") as file:
        process = subprocess.Popen(
            enter.in_cgroup(place.unit_cgroup(layout.AGENT), command), stdin=subprocess.DEVNULL, env=enter.service_environment(),
            stdout=file if log is None else log, stderr=file if log is None else log,
        )  # fmt: skip
    try:
        eventually(lambda: agent.try_complaint(place) is None, HEALTHY_S, f"the agent of {host} is healthy")
        yield process
    finally:
        lab.kill_agent(host)
        process.wait()
        lab.start_agent(host)


def cpu_s(pid: int) -> float:
    """CPU time that a process has had."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123 - as short as it is
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
