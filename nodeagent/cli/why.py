"""`nodeagent why`: each step of a decision, in the order in which it is made."""

import click

from nodeagent.cli import completion
from nodeagent.cli.agent_api import ask, socket_option
from nodeagent.cli.main import EXIT_FAILED
from nodeagent.cli.names import service_name
from nodeagent.cli.render import align, output_option, printable, show_json
from nodeagent.control.report import WhyAnswer
from nodeagent.model.address import parse_address
from nodeagent.model.explanation import Step, Verdict

_SIGN: dict[Verdict, tuple[str, str]] = {
    "ok": ("✓", "green"), "refused": ("\N{MULTIPLICATION SIGN}", "red"), "note": ("·", "cyan"), "unknown": ("?", "yellow"),
}  # fmt: skip


def _caller(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    """click's: an empty name, as of an unset variable of a shell, is a mistake and not an unidentified workload."""
    if value == "":
        raise click.BadParameter("is empty; leave the option away to ask for an unidentified workload")
    return service_name(ctx, param, value or "")


def _address(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """click's: the address as the agent writes it."""
    try:
        return str(parse_address(value)) if value else ""
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no IP:PORT (IPv6: [IP]:PORT)") from error


@click.command()
@click.argument("connection", required=False, shell_complete=completion.connections)
@click.option("--from", "source", metavar="SERVICE", callback=_caller, shell_complete=completion.services, help="The caller; without it an unidentified workload.")
@click.option("--to", "destination", metavar="SERVICE", callback=service_name, shell_complete=completion.services, default="", help="The service that is called.")
@click.option("--port", type=click.IntRange(1, 65535), help="At this port, where the service has several.")
@click.option("--address", metavar="IP:PORT", callback=_address, default="", help="At this address, where it has several.")
@output_option
@socket_option
def why(  # noqa: PLR0913 - the options of the command
    *, connection: str | None, source: str, destination: str, port: int | None, address: str, output: str, socket_path: str | None
) -> None:
    """Why a call passes or is refused: CONNECTION by its id, or --from one service --to another.

    Asked on the caller's host it tells the whole way; what the callee's agent will say is computed from this host's
    snapshot and marked so. Ids are in: nodeagent connections, and in the log. Of a connection that there was it tells
    what became of it, and beneath, how it would be decided now.

    Exit status: 0 it passes, as far as this host can tell (by its id: it passed), 1 it is refused or cannot come from this host, 3 no agent is there,
    4 no such connection, service or address is known, 5 it does not answer in time. While the dead-man switch has fallen that decides: see `switch`.
    """
    if bool(connection) == bool(destination) or (connection and (source or port or address)):
        raise click.UsageError("give the id of a connection, or --to SERVICE (with --from, --port, --address)")
    if port and address:
        raise click.UsageError("give --port or --address, which has the port")
    query = {"id": connection, "from": source, "to": destination, "port": str(port or ""), "address": address}
    answer = ask("/v1/why", WhyAnswer, socket_path=socket_path, query={k: v for k, v in query.items() if v})
    if output == "json":
        show_json(answer)
    else:
        for line in screen(answer):
            click.echo(line)
    if not answer.passes:
        raise SystemExit(EXIT_FAILED)


def screen(answer: WhyAnswer) -> list[str]:
    """The lines: who calls whom, then a line for each step."""
    rows = align([["", step.what, _text(step)] for step in answer.steps])
    signs = [click.style(*_styled(step)) for step in answer.steps]
    return [
        printable(_headline(answer)),
        *(f"{sign} {printable(row.lstrip())}" for sign, row in zip(signs, rows, strict=True)),
    ]


def _headline(answer: WhyAnswer) -> str:
    if answer.connection and not (answer.source or answer.address):
        return f"a tunnel handshake of {answer.connection.client}"
    whom = " at ".join(filter(None, (answer.destination, answer.address)))
    return f"{answer.source or 'an unidentified workload'} -> {whom}"


def _styled(step: Step) -> tuple[str, str]:
    return _SIGN[step.verdict]


def _text(step: Step) -> str:
    return f"{step.text} [{step.by}]" if step.by else step.text
