"""`nodeagent route`: where a request goes, step by step."""

from collections.abc import Iterator, Sequence

import click

from nodeagent.cli import completion
from nodeagent.cli.agent_api import ask, socket_option
from nodeagent.cli.main import EXIT_FAILED
from nodeagent.cli.names import service_name
from nodeagent.cli.render import align, output_option, printable, show_json
from nodeagent.control.report import RouteAnswer
from nodeagent.decide.asked_request import asked_request
from nodeagent.model.explanation import LegRow, RequestExplanation, Verdict

_OK, _REFUSED, _NOTE = ("✓", "green"), ("\N{MULTIPLICATION SIGN}", "red"), ("·", "cyan")
_SIGN = {"ok": _OK, "allow": _OK, "refused": _REFUSED, "deny": _REFUSED, "note": _NOTE, "unknown": ("?", "yellow")}
_Row = tuple[str, str, str]
"""Sign, what, text."""


@click.group()
def route() -> None:
    """Routing of HTTP requests: routers, splitters, resolvers and intentions, as this host's agent has them."""


@route.command()
@click.option("--from", "source", metavar="SERVICE", callback=service_name, shell_complete=completion.services, required=True, help="The service that calls.")
@click.option("--to", "destination", metavar="SERVICE", callback=service_name, shell_complete=completion.services, required=True, help="The service that is called.")
@click.option("--method", default="GET", show_default=True, help="Of the request, as it is sent: `get` is not GET.")
@click.option("--path", default="/", show_default=True, help="With the query, as it is sent.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header of the request. Can be repeated.")
@output_option
@socket_option
def explain(  # noqa: PLR0913 - the options of the command
    *, source: str, destination: str, method: str, path: str, headers: Sequence[str], output: str, socket_path: str | None
) -> None:
    """Where one request goes: router, splitter, resolver, instances, intention.

    Asked on any host that knows both services; on the caller's host it is what that agent does, with the instances that its workers leave alone
    for a while, since they failed, and what they have of the bounds that the caller's entry says.

    Exit status: 0 every way of it leads to an instance and is allowed, 1 one does not, 3 no agent is there, 4 no such service is known, 5 it does not
    answer in time.
    """
    try:
        asked_request(method, path, headers)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    query = {"from": source, "to": destination, "method": method, "path": path, "headers": "\n".join(headers)}
    answer = ask("/v1/route", RouteAnswer, socket_path=socket_path, query={k: v for k, v in query.items() if v})
    if output == "json":
        show_json(answer)
    else:
        for line in screen(answer.explanation):
            click.echo(line)
    if not answer.explanation.passes:
        raise SystemExit(EXIT_FAILED)


def screen(told: RequestExplanation) -> list[str]:
    """The lines: the request, what is the same for all its ways, and each way."""
    rows = [(step.verdict, step.what, step.text) for step in told.steps]
    lines = [printable(f"{told.source} -> {told.destination}: {told.method} {told.path}"), *_lines(rows)]
    for leg in told.legs:
        lines += [printable(f"{leg.percent:g} % {leg.target}"), *(f"  {line}" for line in _lines(list(_leg_rows(leg))))]
    return lines


def _leg_rows(leg: LegRow) -> Iterator[_Row]:
    for step in leg.steps:
        yield step.verdict, step.what, step.text
    for each in leg.candidates:
        where = ", ".join(each.addresses)
        sign: Verdict = "ok" if each.state == "ok" and not each.ejected_s else "note"
        ejected = f", ejected for {each.ejected_s:g} s more" if each.ejected_s else ""
        of = f" of {each.stand_in}" if each.stand_in else ""
        yield sign, "candidate", f"{each.id}{of} on {each.host} at {where}, weight {each.weight}, {each.state}{ejected}"
    if not leg.candidates and leg.verdict != "refused":
        yield "refused", "candidate", f"no instance of {leg.target} is known"
    elif leg.verdict != "refused" and all(each.state != "ok" for each in leg.candidates):
        yield "refused", "candidate", f"no instance of {leg.target} can take requests"
    yield leg.verdict, "way" if leg.verdict == "refused" else "intention", leg.why


def _lines(rows: Sequence[_Row]) -> list[str]:
    aligned = align([["", what, printable(text)] for _, what, text in rows])
    signs = (click.style(*_SIGN[sign]) for sign, _, _ in rows)
    return [f"{sign} {line.lstrip()}" for sign, line in zip(signs, aligned, strict=True)]
