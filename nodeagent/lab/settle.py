"""Waiting until what was registered is known, and acted upon, by every agent of the lab."""

import time

from nodeagent import limits
from nodeagent.control.report import ConnectionsAnswer, ServicesAnswer
from nodeagent.lab import agent, layout
from nodeagent.lab.ask import ask_agent
from nodeagent.lab.errors import LabError
from nodeagent.lab.layout import Host
from nodeagent.lab.progress import Progress, Say
from nodeagent.lab.state import LabState


def wait_known(state: LabState, at: Host, service: str, say: Say) -> None:
    """Returns when every running agent has an instance of `service` on `at` in force, in every worker.

    Without this, a call right after `lab run` could still meet the port as one that nobody registered.

    Raises:
        LabError: an agent does not know it in time.
    """
    deadline, progress = time.monotonic() + limits.LAB_SETTLE_S, Progress(say)
    for host in state.members:
        while agent.is_running(host) and not _knows(host, at, service):
            if time.monotonic() > deadline:
                raise LabError(
                    f"the agent on {host.name} does not know {service} on {at.name} after {limits.LAB_SETTLE_S:g} s; "
                    f"see: {layout.agent_command(host.lab, host.name, 'logs')}"
                )
            progress.waits_for(f"the agent on {host.name} does not know {service} on {at.name} yet")
            time.sleep(0.02)


def _knows(host: Host, at: Host, service: str) -> bool:
    try:
        if not has_instance(ask_agent(host, "/v1/services", ServicesAnswer), service, at.name):
            return False
        # A worker answers its questions and takes its changes in one order: after this answer it has the change.
        return ask_agent(host, "/v1/connections?limit=1", ConnectionsAnswer).unanswered == 0
    except LabError:  # starting or just restarted: the deadline is the caller's
        return False


def has_instance(answer: ServicesAnswer, service: str, host: str) -> bool:
    """Whether an instance of `service` on `host` is among what an agent knows."""
    instances = (instance for part in answer.services if part.name == service for instance in part.instances)
    return any(instance.host == host for instance in instances)
