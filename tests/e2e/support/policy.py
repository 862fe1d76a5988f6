"""The intentions of a lab, set as a whole and waited for."""

from collections.abc import Iterable, Mapping

from nodeagent.control.report import ConnectionsAnswer, IntentionPart, ServicesAnswer
from nodeagent.lab.ask import ask_agent
from nodeagent.lab.lab import Lab
from nodeagent.lab.layout import Host
from tests.e2e.support.look import WITHIN_S
from tests.support.eventually import eventually

ENTRIES = "/v1/config/service-intentions"
Rows = Mapping[tuple[str, str], str]
"""(source, destination) -> `allow` or `deny`."""


def set_intentions(lab: Lab, rows: Rows) -> None:
    """These and no others, in force in every worker of every running agent when this returns."""
    written = {entry["Name"] for entry in lab.catalog("GET", ENTRIES)}
    for name in written - {destination for _, destination in rows}:
        lab.catalog("DELETE", f"{ENTRIES}/{name}")
    for name in {destination for _, destination in rows}:
        sources = [{"Name": source, "Action": action} for (source, to), action in rows.items() if to == name]
        lab.catalog("PUT", "/v1/config", {"Kind": "service-intentions", "Name": name, "Sources": sources})
    for host in lab.state.members:
        eventually(lambda at=host: in_force(at) == rows, WITHIN_S, f"{dict(rows)} on {host.name}")


def in_force(host: Host) -> Rows:
    """What an agent and each of its workers decide by; something impossible while a worker is behind."""
    answer = ask_agent(host, "/v1/services", ServicesAnswer)
    parts: Iterable[IntentionPart] = [
        *answer.wildcards,
        *(i for service in answer.services for i in service.intentions),
    ]
    # A worker answers its questions and takes its changes in one order: after this answer it has the change.
    behind = ask_agent(host, "/v1/connections?limit=1", ConnectionsAnswer).unanswered
    return {(part.source, part.destination): part.action for part in parts} if not behind else {("", ""): "behind"}
