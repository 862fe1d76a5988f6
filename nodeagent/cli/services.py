"""`nodeagent services`: what this host's agent knows of the mesh."""

import click

from nodeagent.cli.agent_api import ask, socket_option
from nodeagent.cli.render import headers_option, output_option, show_json, show_table, warn
from nodeagent.control.report import InstancePart, ServicePart, ServicesAnswer

HEADERS = ("SERVICE", "PROTOCOL", "MODE", "HOST", "ADDRESSES", "STATE", "CALLERS")


@click.command()
@headers_option
@output_option
@socket_option
def services(*, no_headers: bool, output: str, socket_path: str | None) -> None:
    """Services, their instances and who may call them, as the agent holds them."""
    answer = ask("/v1/services", ServicesAnswer, socket_path=socket_path)
    if output == "json":
        show_json(answer)
        return
    if not answer.generation:
        warn("the agent has no snapshot yet: it has not heard from the catalog; see: nodeagent status")
    show_table(HEADERS, [row for service in answer.services for row in table_rows(service)], no_headers=no_headers)
    for service in answer.services:
        for why in dict.fromkeys(instance.uncaptured for instance in service.instances if instance.uncaptured):
            warn(f"{service.name} is called past the agent, by anybody: {why}")
    for intention in answer.wildcards:
        click.echo(f"every service: {intention.action} {intention.source}")


def table_rows(service: ServicePart) -> list[list[str]]:
    """A line for each instance, or one for a service without any."""
    callers = (
        ", ".join(f"{intention.action} {intention.source}" for intention in service.intentions) or "nobody by name"
    )
    head = [service.name, service.protocol, service.mode]
    if not service.instances:
        return [[*head, "-", "-", "no instance", callers]]
    return [_row(head, i, callers) for i in service.instances]


def _row(head: list[str], instance: InstancePart, callers: str) -> list[str]:
    place = [instance.host, " ".join(instance.addresses), state(instance)]
    if instance.uncaptured:  # whatever mode and intentions say, nothing of it holds
        return [*head[:2], "-", *place, "anybody"]
    return [*head, *place, callers]


def state(instance: InstancePart) -> str:
    """Where it is, whether its host runs an agent, and its health."""
    place = "here, NOT PROTECTED" if instance.uncaptured else "here" if instance.is_local else "meshed" if instance.is_meshed else "no agent"
    return f"{place}, drained" if instance.drained else place if instance.healthy else f"{place}, unhealthy"
