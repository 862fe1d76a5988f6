"""`nodeagent connections`: who talks to whom, now or lately."""

import click

from nodeagent import limits
from nodeagent.cli import completion
from nodeagent.cli.agent_api import ask, socket_option
from nodeagent.cli.names import service_name
from nodeagent.cli.render import duration, headers_option, now, output_option, show_json, show_table, size, warn
from nodeagent.control.report import ConnectionsAnswer
from nodeagent.decide.explain import has_passed
from nodeagent.model.outcome import ConnectionRow

HEADERS = ("ID", "AGE", "DIRECTION", "SOURCE", "DESTINATION", "CLIENT", "TO", "PATH", "SENT", "RECEIVED", "BY", "OUTCOME")
_CELL_CHARS = 48  # on a terminal; the whole of it is in a pipe and in JSON


@click.command()
@click.option("--closed", is_flag=True, help="Those that ended lately instead of those that are open.")
@click.option("--service", metavar="NAME", callback=service_name, shell_complete=completion.services, default="", help="Only those which this service called or was called by.")
@click.option("--limit", type=click.IntRange(1, limits.API_ROWS_MAX), default=100, show_default=True)
@click.option("--before", is_flag=True, help="Instead: connections of services that go around the agent, as they were open before it captured.")
@headers_option
@output_option
@socket_option
def connections(  # noqa: PLR0913 - click hands over one argument for each option
    *, closed: bool, before: bool, service: str, limit: int, no_headers: bool, output: str, socket_path: str | None
) -> None:
    """Connections of this host, the newest first.

    SENT is what came from the client and went on; of a refused one nothing went on, and what had come is in brackets.
    """
    if before and closed:
        raise click.UsageError("--before and --closed contradict each other: what goes around the agent is open, and leaves no record")
    if before:
        from nodeagent.cli.uncarried import show_uncarried  # noqa: PLC0415 - imports that the others can do without

        show_uncarried(service=service, no_headers=no_headers, output=output, socket_path=socket_path)
        return
    query = {"limit": str(limit), "closed": "1" if closed else "0"} | ({"service": service} if service else {})
    answer = ask("/v1/connections", ConnectionsAnswer, socket_path=socket_path, query=query)
    if output == "json":
        show_json(answer)
        return
    rows = [table_row(row, now()) for row in answer.connections]
    show_table(HEADERS, rows, no_headers=no_headers, most=_CELL_CHARS)
    if answer.unanswered:
        warn(f"{answer.unanswered} workers did not answer in time: their connections are missing")
    if answer.total > len(answer.connections):
        warn(f"{answer.total - len(answer.connections)} more; see them with --limit")


def table_row(row: ConnectionRow, at: float) -> list[str]:
    """The cells for one connection; `at` in Unix seconds."""
    return [
        row.id,
        duration(max(at - (row.closed_at or row.opened_at), 0)),
        row.direction,
        row.source or "(unidentified)",
        row.destination or "-",
        row.client,
        row.original_dst,
        row.path + (f" via {row.peer}" if row.peer and "tunnel" in (row.path, row.direction) else ""),
        sent(row),
        size(row.received),
        row.permit or "-",
        outcome(row),
    ]


def sent(row: ConnectionRow) -> str:
    """What the client sent and the other end got; in brackets what had come of a connection that was refused."""
    if row.closed_at and row.sent and not has_passed(row):
        return f"0 B ({size(row.sent)})"
    return size(row.sent)


def outcome(row: ConnectionRow) -> str:
    """How it went, in few words."""
    if not row.closed_at:
        return "open"
    return row.reason if not row.error else f"{row.reason}: {row.error}"
