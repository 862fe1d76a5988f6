"""`nodeagent check`: what of this host is well, doubtful or wrong, with a cure for each."""

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from nodeagent.cli.agent_api import AgentSilentError, AgentUnreachableError, ask, find_socket, socket_option
from nodeagent.cli.main import EXIT_FAILED, EXIT_TIMEOUT, EXIT_UNREACHABLE
from nodeagent.cli.render import now, output_option, printable
from nodeagent.cli.seconds import Seconds
from nodeagent.config import DEFAULT_PATH, Config, load_config
from nodeagent.control.report import API_VERSION, Status
from nodeagent.diagnose.facts import Blind, Facts
from nodeagent.diagnose.finding import Finding, Level
from nodeagent.diagnose.judge import judge
from nodeagent.errors import ConfigError
from nodeagent.lab.commands import words_at
from nodeagent.probe.gather import gather
from nodeagent.probe.scope import Scope

_SIGNS: dict[Level, tuple[str, str]] = {
    "ok": ("✓", "green"), "warning": ("‼", "yellow"), "failed": ("\N{MULTIPLICATION SIGN}", "red"),
}  # fmt: skip
_AGAIN_S = 1.0  # between two looks while waiting; a look takes about as long


class CheckReport(msgspec.Struct, kw_only=True, rename={"api_version": "apiVersion"}):
    """What `-o json` prints."""

    api_version: str = API_VERSION
    ok: bool
    """The exit status is 0: nothing has failed, and the agent could be asked."""
    pre: bool
    findings: list[Finding]


@click.command()
@click.option("--pre", is_flag=True, help="Before an installation: look at the host alone, no agent is expected.")
@click.option("--wait", "wait_s", type=Seconds(0, 86_400), metavar="SECONDS", help="Look again until nothing has failed.")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), default=DEFAULT_PATH, show_default=True, metavar="PATH"
)
@output_option
@socket_option
def check(*, pre: bool, wait_s: float | None, config_path: Path, output: str, socket_path: str | None) -> None:
    """Look at this host, its kernel, firewall, routes, catalog, certificates, peers and clock. Needs root to see all.

    Nothing is changed. A peer logs one refused handshake for each look.

    Exit status: 0 nothing has failed, 1 something has, 3 no agent is there (or it does not answer to you), 5 it does not answer in time,
    or something still has failed when --wait is over.
    """
    began = time.monotonic()
    while True:
        scope = read_scope(config_path, socket_path, is_pre=pre)
        facts = gather(scope, _say)
        again = _again(config_path, socket_path, is_pre=pre)
        findings = _said_here(judge(facts, is_root=os.geteuid() == 0, again=again), scope.config)
        failed = [finding for finding in findings if finding.level == "failed"]
        left_s = (wait_s or 0.0) - (time.monotonic() - began)
        if not failed or left_s <= 0:
            break
        click.echo(f"{len(failed)} failed, {left_s:.0f} s left: {printable(failed[0].found)}", err=True)
        time.sleep(min(_AGAIN_S, left_s))
    status = _status(facts, is_failed=bool(failed), is_waiting=wait_s is not None)
    _show(findings, output, is_pre=pre, is_ok=not status)
    raise SystemExit(status)


def screen(findings: Sequence[Finding]) -> list[str]:
    """The lines: a heading for each group, a line for each finding, and its cure below."""
    lines: list[str] = []
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            lines.append(group)
        sign, colour = _SIGNS[finding.level]
        lines.append(f"  {click.style(sign, colour)} {finding.name}: {printable(finding.found)}")
        if finding.cure and finding.level != "ok":
            lines.append(f"      {printable(finding.cure)}")
    return [*lines, _sum(findings)]


def _again(config_path: Path, socket_path: str | None, *, is_pre: bool) -> str:
    """The command, with what it was told of this host."""
    config = () if config_path == DEFAULT_PATH else ("--config", str(config_path))
    return shlex.join(("nodeagent", "check", *(("--pre",) if is_pre else ()), *config, *(("--socket", socket_path) if socket_path else ())))


def _said_here(findings: Sequence[Finding], config: Config | None) -> tuple[Finding, ...]:
    """The findings with the commands that work on this host."""
    here = words_at(config.intercept.cgroup_root if config else "")
    return tuple(msgspec.structs.replace(each, found=here(each.found), cure=here(each.cure)) for each in findings)


def _say(what: str) -> None:
    click.echo(what, err=True)


def _sum(findings: Sequence[Finding]) -> str:
    levels = [finding.level for finding in findings]
    return f"{levels.count('ok')} well, {levels.count('warning')} to look at, {levels.count('failed')} failed"


def report_json(findings: Sequence[Finding], *, is_pre: bool, is_ok: bool = True) -> bytes:
    """The report for programs. is_ok: as far as the findings do not tell."""
    is_ok = is_ok and all(finding.level != "failed" for finding in findings)
    return msgspec.json.format(msgspec.json.encode(CheckReport(ok=is_ok, pre=is_pre, findings=list(findings))), indent=2)


def _show(findings: Sequence[Finding], output: str, *, is_pre: bool, is_ok: bool) -> None:
    if output == "json":
        click.echo(report_json(findings, is_pre=is_pre, is_ok=is_ok))
        return
    for line in screen(findings):
        click.echo(line, color=False if "NO_COLOR" in os.environ else None)


def _status(facts: Facts, *, is_failed: bool, is_waiting: bool) -> int:
    if is_failed and is_waiting:
        return EXIT_TIMEOUT
    if isinstance(facts.agent, Blind):
        return EXIT_UNREACHABLE
    if facts.agent and facts.agent.error:
        return EXIT_TIMEOUT if facts.agent.is_silent else EXIT_UNREACHABLE
    return EXIT_FAILED if is_failed else 0


def read_scope(config_path: Path, socket_path: str | None, *, is_pre: bool) -> Scope:
    """What a look at this host starts from: file and agent, as far as there are any."""
    config, error, is_config_closed = _read_config(config_path)
    where = find_socket(socket_path, config_path)

    def ask_agent(path: str, kind: type[Any]) -> Any:
        return ask(path, kind, socket_path=where, config=config_path)

    status, agent_error, agent_cure, is_agent_closed, is_agent_silent, is_settling = None, "", "", False, False, False
    try:
        status = ask_agent("/v1/status", Status)
    except AgentUnreachableError as failure:
        agent_error, agent_cure, is_settling = failure.what, failure.cure, failure.is_settling
        is_agent_silent = isinstance(failure, AgentSilentError)
    except click.ClickException as failure:
        agent_error, is_agent_closed = failure.message, isinstance(failure.__cause__, PermissionError)
    return Scope(
        config_path, config, error, is_pre, agent_error, status, ask_agent, now, is_agent_closed=is_agent_closed, agent_cure=agent_cure,
        is_agent_silent=is_agent_silent, is_agent_settling=is_settling, socket_path=socket_path or "", is_config_closed=is_config_closed,
    )  # fmt: skip


def _read_config(path: Path) -> tuple[Config | None, str, bool]:
    """The configuration, or why there is none, and whether that is only because it is closed to this user."""
    try:
        return load_config(path), "", False
    except ConfigError as error:
        return None, str(error), isinstance(error.__cause__, PermissionError)

