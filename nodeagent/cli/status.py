"""`nodeagent status`: the agent on one screen."""

import click

from nodeagent.cli.agent_api import ask, socket_option, words_here
from nodeagent.cli.main import EXIT_FAILED
from nodeagent.cli.render import align, duration, now, output_option, printable, show_json
from nodeagent.control.report import CatalogPart, GenerationPart, IdentityPart, InterceptionPart, Status, WorkerPart


@click.command()
@output_option
@socket_option
def status(output: str, socket_path: str | None) -> None:
    """How the agent of this host is.

    Exit status: 0 healthy, 1 somebody must act, 3 no agent is there, 5 it does not answer in time.
    """
    answer = ask("/v1/status", Status, socket_path=socket_path)
    if output == "json":
        show_json(answer)
    else:
        here = words_here()
        for line in screen(answer, now()):
            click.echo(here(line))
    if not answer.healthy:
        raise SystemExit(EXIT_FAILED)


def screen(answer: Status, at: float) -> list[str]:
    """The lines of the screen; `at` in Unix seconds."""
    verdict = "healthy" if answer.healthy else "NOT HEALTHY"
    head = f"{answer.host} ({answer.datacenter})  nodeagent {answer.version}  mode {answer.mode}  {verdict}"
    rows = [
        ["supervisor", _supervisor(answer, at)],
        ["control", _control(answer, at)],
        ["workers", _workers(answer.workers)],
        *(["generation", _generation(part, at)] for part in answer.generations if len(answer.generations) > 1),
        ["interception", _interception(answer.interception)],
        ["catalog", _catalog(answer.catalog)],
        ["identity", _identity(answer.identity, at)],
        *(["PROBLEM", text] for text in answer.problems),
        *(["warning", text] for text in answer.warnings),
    ]
    return [printable(line) for line in [head, *align(rows)]]


def _supervisor(answer: Status, at: float) -> str:
    part = answer.supervisor
    if part is None:
        return "not heard yet"
    silent = f", silent for {duration(part.heard_s)}" if part.heard_s > 5 else ""
    return f"pid {part.pid}, up {duration(max(at - part.started_at, 0))}{silent}"


def _control(answer: Status, at: float) -> str:
    part, text = answer.supervisor, f"pid {answer.control_pid}, up {duration(max(at - answer.control_started_at, 0))}"
    if part is None or not part.control_stalls:
        return text
    return f"{text}; hung or too busy to hear {part.control_stalls} times, last {duration(max(at - part.control_stalled_at, 0))} ago"


def _workers(workers: list[WorkerPart]) -> str:
    states = [worker.state for worker in workers]
    counted = ", ".join(f"{states.count(state)} {state.replace('_', ' ')}" for state in dict.fromkeys(states)) or "none"
    restarts = sum(worker.restarts for worker in workers)
    return (
        f"{counted}; {sum(w.connections for w in workers)} connections, {sum(w.tunnels for w in workers)} tunnels "
        f"with {sum(w.streams for w in workers)} streams" + (f", {restarts} restarts" if restarts else "")
    )


def _generation(part: GenerationPart, at: float) -> str:
    age = f"{part.generation}, version {part.version}: {part.workers} workers, up {duration(max(at - part.started_at, 0))}"
    if not part.drain_until:
        return f"{age}, {part.connections} connections"
    return f"{age}, {part.connections} connections left, closed in {duration(max(part.drain_until - at, 0))}"


def _interception(part: InterceptionPart) -> str:
    detail = f" ({part.detail})" if part.detail else ""
    repairs = f", repaired {part.repairs} times" if part.repairs else ""
    bypassed = f", {part.bypassed} connections bypassed the agent while it was dead" if part.bypassed else ""
    return f"{part.state}{detail}: {part.addresses} addresses, {part.ports} local ports, {part.units} units{repairs}{bypassed}"


def _catalog(part: CatalogPart) -> str:
    link = "connected" if part.connected else f"OUT OF REACH ({part.error})"
    link += f" ({', '.join(part.found)})" if part.found and part.connected else ""
    if part.source == "none":
        return f"{part.address} {link}; nothing heard yet"
    origin = "" if part.source == "catalog" else ", from the file saved"
    return (
        f"{part.address} {link}; generation {part.generation}, {part.services} services, {part.hosts} hosts{origin}, "
        f"confirmed {duration(part.age_s)} ago"
    )


def _identity(part: IdentityPart, at: float) -> str:
    if not part.trust_domain:
        return "the mesh's roots are not known yet"
    text = f"{part.trust_domain}, {part.roots} roots, {part.certificates} certificates"
    if part.soonest_expiry:
        text += f", the first to end is {part.soonest_service}'s in {duration(max(part.soonest_expiry - at, 0))}"
    if part.rotating:
        text += f"; still of another root than the one that signs: {', '.join(part.rotating)}"
    if part.revoked:
        text += f"; the certificates of {part.revoked} revoked tokens are refused"
    return text + (f"; none yet for {', '.join(part.missing)}" if part.missing else "")
