"""Waiting until a change in the catalog has reached the agents."""

import time

from nodeagent import limits
from nodeagent.lab import agent
from nodeagent.lab.errors import LabError
from nodeagent.lab.layout import Host
from nodeagent.lab.state import LabState


def wait_known(state: LabState, service: str) -> None:
    """Returns when every running agent of the lab knows `service`.

    Raises:
        LabError: one does not in time.
    """
    deadline = time.monotonic() + limits.LAB_SETTLE_S
    for host in state.members:
        while agent.is_running(host) and service not in _services(host):
            if time.monotonic() > deadline:
                raise LabError(f"the agent on {host.name} does not know {service} after {limits.LAB_SETTLE_S:g} s")
            time.sleep(0.02)


def _services(host: Host) -> frozenset[str]:
    return frozenset()
