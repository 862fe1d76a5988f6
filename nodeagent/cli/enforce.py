"""`nodeagent enforce`: from watching to refusing, one step at a time, with a look at who would be refused."""

import sys

import click
import msgspec

from nodeagent import limits
from nodeagent.cli import completion
from nodeagent.cli.agent_api import ask, socket_option, tell
from nodeagent.cli.main import EXIT_FAILED
from nodeagent.cli.names import service_name
from nodeagent.cli.render import (
    duration,
    headers_option,
    instant,
    now,
    output_option,
    printable,
    show_json,
    show_table,
    warn,
)
from nodeagent.cli.seconds import Span
from nodeagent.control.report import CheckAnswer, FlowPart, ModePart, ModesAnswer, SwitchMode
from nodeagent.model.flow import Flow
from nodeagent.model.service import Mode

HEADERS = ("SEEN", "TIMES", "CALLER", "SERVICE", "AT", "REASON", "WHY")


@click.command()
@click.argument("mode", type=click.Choice(["observe", "permissive", "strict"]), required=False)
@click.option("--check", is_flag=True, help="Only show who would be refused, or may be; exit status 1 if anybody.")
@click.option("--service", metavar="NAME", callback=service_name, shell_complete=completion.services, default="", help="The mode of this service on this host, not the host's.")
@click.option("--since", type=Span(limits.FLOW_AGE_S), metavar="TIME", help="Look only at flows that were seen within TIME: 30m, 1h, 2d; by default at all that are kept, 30d.")
@click.option("--reset", is_flag=True, help="Back to what the configuration file says.")
@click.option("--list", "is_list", is_flag=True, help="Show the modes that hold.")
@click.option("-y", "--yes", is_flag=True, help="Switch although recorded callers would be refused.")
@headers_option
@output_option
@socket_option
def enforce(  # noqa: PLR0913 - the options of the command
    *, mode: Mode | None, check: bool, service: str, since: int | None, reset: bool, is_list: bool, yes: bool, no_headers: bool,
    output: str, socket_path: str | None,
) -> None:  # fmt: skip
    """Switch this host, or a service, to MODE; without MODE to the next stricter: observe, permissive, strict.

    Before anything changes, the flows that were recorded are decided anew as MODE would: whoever passes now and would be
    refused is shown. Clear text does not count if its host has begun to call the same service by tunnel since. The switch is
    in force within a second, also for connections that are open, and outlives a restart until the file's mode is changed.
    What is foreseen is policy and missing certificates: whether tunnels reach their hosts is for: nodeagent check

    Exit status: 0 well, 1 somebody would or may be refused (--check), or it was not switched, 3 no agent is there,
    4 no such service, 5 it does not answer in time.
    """
    if sum((check, reset, is_list)) > 1 or (mode and (reset or is_list)):
        raise click.UsageError("MODE, --check, --reset and --list: one of them at a time (MODE and --check go together)")
    if is_list and since:
        raise click.UsageError("--since is for flows, of which --list shows none")
    if is_list:
        _show_modes(ask("/v1/modes", ModesAnswer, socket_path=socket_path), output, no_headers=no_headers)
        return
    if reset and yes:
        _switch(None, service, output, socket_path)
        return
    query = {"mode": "file" if reset else mode or "", "service": service, "since": str(since or "")}
    answer = ask("/v1/enforce", CheckAnswer, socket_path=socket_path, query={k: v for k, v in query.items() if v})
    if check or (output == "table" and not (reset and _is_same(answer))):
        _show_check(answer, output, no_headers=no_headers)
    if check:
        raise SystemExit(EXIT_FAILED if _harmed(answer) else 0)
    if _is_same(answer) and not reset:
        if output == "json":
            show_json(ask("/v1/modes", ModesAnswer, socket_path=socket_path))
        return
    _confirm(answer, output, yes=yes)
    _switch(None if reset else answer.proposed, service, output, socket_path)


def _confirm(answer: CheckAnswer, output: str, *, yes: bool) -> None:
    """Asks whoever can answer; else --yes must have been given."""
    if yes or not _harmed(answer):
        return
    question = f"{_toll(answer)}. Switch {_steps(answer)}?"
    if sys.stdin.isatty() and click.confirm(question, err=True):
        return
    if output == "json":
        show_json(answer)
    raise click.ClickException(f"{question} Nothing was changed; say so with --yes")


def _switch(mode: str | None, service: str, output: str, socket_path: str | None) -> None:
    before = _held(ask("/v1/modes", ModesAnswer, socket_path=socket_path))
    wish = SwitchMode(mode=mode, service=service)  # type: ignore[arg-type] # one of the choices, or the agent's own word
    answer = tell("/v1/modes", wish, ModesAnswer, socket_path=socket_path)
    if output == "json":
        show_json(answer)
        return
    held = _held(answer)
    for name in (service, *sorted(before.keys() - {service, ""})):
        was, now_ = (modes.get(name) or modes[""] for modes in (before, held))
        if was != now_ or name == service:
            click.echo(f"{_whom(name)} is {'' if was == now_ else 'now '}{now_}{_word(answer, name) if mode is None else ''}")
    others = [f"{name} ({own})" for name, own in held.items() if own != held[""]]
    if others and not service:
        click.echo(f"services with a mode of their own: {', '.join(others)}")


def _word(answer: ModesAnswer, service: str) -> str:
    """By what a mode holds that was reset."""
    return ", as the file says" if any(part.service == service and part.configured for part in answer.modes) else ", as the host is"


def _held(answer: ModesAnswer) -> dict[str, str]:
    """The mode of the host (empty name), and of each service that has its own."""
    return {part.service: part.mode for part in answer.modes}


def _whom(service: str) -> str:
    return f"{service} on this host" if service else "this host"


def _show_check(answer: CheckAnswer, output: str, *, no_headers: bool) -> None:
    if output == "json":
        show_json(answer)
        return
    if _is_same(answer):
        click.echo(f"{_whom(answer.service)} is {answer.mode}" + (": there is no stricter mode" if answer.mode == "strict" else " already"))
        return
    if parts := _harmed(answer):
        show_table(HEADERS, [table_row(part, now()) for part in parts], no_headers=no_headers)
    click.echo(printable(summary(answer, now())))
    if answer.unanswered:
        warn(f"{answer.unanswered} workers did not answer in time: their open connections are not counted")


def summary(answer: CheckAnswer, at: float) -> str:
    """What the flows say, in a sentence; `at` in Unix seconds."""
    step = _steps(answer) if answer.also else f"{_whom(answer.service)}: {answer.mode} -> {answer.proposed}"
    is_all = answer.within_s >= limits.FLOW_AGE_S
    if not answer.flows:
        return f"{step}: no flow was {'recorded yet' if is_all else f'seen in {duration(answer.within_s)}'}, so nobody can say who would be refused"
    age = f"recorded in {duration(max(at - answer.since, 0))}" if is_all else f"seen in {duration(answer.within_s)}"
    seen = f"of {_counted(answer.flows, 'flow')} {age}"
    cut = f"; {_open(answer)} would be cut, and may come back" if answer.cut else ""
    return f"{step}: {len(answer.refused) or 'none'} {seen} would be refused{_over(answer)}{cut}{f'; {_bare(answer)}' if answer.bare else ''}"


def _over(answer: CheckAnswer) -> str:
    over = len(answer.superseded)
    return f" ({over} in clear superseded: {'its host calls' if over == 1 else 'their hosts call'} by tunnel since)" if over else ""


def _is_same(answer: CheckAnswer) -> bool:
    return answer.proposed == answer.mode and not answer.also


def _steps(answer: CheckAnswer) -> str:
    """What is switched: the host, a service, or all that a reset takes back."""
    first = [] if answer.proposed == answer.mode else [f"{_whom(answer.service)} to {answer.proposed}"]
    return ", ".join([*first, *(f"{part.service} to {part.mode}" for part in answer.also)])


def _harmed(answer: CheckAnswer) -> list[FlowPart]:
    """Whom somebody should know of before it is done."""
    return [*answer.refused, *answer.cut, *answer.bare]


def _toll(answer: CheckAnswer) -> str:
    refused = f"{_counted(len(answer.refused), 'recorded flow')} would be refused" if answer.refused else ""
    cut = f"{_open(answer)} would be cut" if answer.cut else ""
    return ", ".join(filter(None, (refused, cut, _bare(answer) if answer.bare else "")))


def _bare(answer: CheckAnswer) -> str:
    return f"{len(answer.bare)} would go in clear to hosts with an agent: refused there where that host or service is strict"


def _open(answer: CheckAnswer) -> str:
    return _counted(sum(part.times for part in answer.cut), "open connection")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def table_row(part: FlowPart, at: float) -> list[str]:
    """The cells for one flow; `at` in Unix seconds."""
    flow = part.flow
    return [
        f"{duration(max(at - part.last_at, 0))} ago", str(part.times), caller(flow), flow.destination, flow.address, part.reason,
        part.error + (f" [{part.hint}]" if part.hint else ""),
    ]  # fmt: skip


def caller(flow: Flow) -> str:
    """Who it was, as well as it is known."""
    if flow.source:
        return flow.source
    facts = (flow.client, flow.unit, f"uid {flow.uid}" if flow.uid is not msgspec.UNSET else "")
    return f"(unidentified{''.join(f', {fact}' for fact in facts if fact)})"


def _show_modes(answer: ModesAnswer, output: str, *, no_headers: bool) -> None:
    if output == "json":
        show_json(answer)
        return
    show_table(("SERVICE", "MODE", "CONFIGURED", "SWITCHED"), [_mode_row(part) for part in answer.modes], no_headers=no_headers)


def _mode_row(part: ModePart) -> list[str]:
    switched = f"{instant(part.switched_at)} by {part.switched_by}" if part.switched_by else "-"
    return [part.service or "(host)", part.mode, part.configured or "-", switched]
