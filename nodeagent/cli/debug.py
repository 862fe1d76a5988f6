"""`nodeagent debug bundle`: what a support request needs, without secrets."""

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from nodeagent.cli.agent_api import socket_option
from nodeagent.cli.check import read_scope, report_json
from nodeagent.cli.render import now, printable, size
from nodeagent.config import DEFAULT_PATH
from nodeagent.control.durable import replace_file
from nodeagent.diagnose.facts import Blind
from nodeagent.diagnose.judge import judge
from nodeagent.probe.bundle import collect, pack
from nodeagent.probe.gather import gather


@click.group()
def debug() -> None:
    """For those who look for a fault."""


@debug.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it; by default into this directory, named by host and time.")
@click.option("--config", "config_path", type=click.Path(path_type=Path), default=DEFAULT_PATH, show_default=True, metavar="PATH")
@socket_option
def bundle(*, out: Path | None, config_path: Path, socket_path: str | None) -> None:
    """Write state, settings, rules, routes, limits, the last of the log and a check into one archive for root's eyes (0600).

    Tokens and keys are not read into it, and text that looks like one is masked. Works with the agent dead. It names
    services, addresses and who talked to whom: look before you send it.
    """
    scope = read_scope(config_path, socket_path, is_pre=False)
    at = now()
    top = f"nodeagent-{scope.config.host.name if scope.config else 'host'}-{datetime.fromtimestamp(at, tz=UTC):%Y%m%dT%H%M%SZ}"
    path = out or Path(f"{top}.tar.gz")
    if path.is_symlink() or path.exists():
        raise click.ClickException(f"{path} is there already; name another file with --out")
    click.echo("collecting", err=True)
    parts = collect(scope, lambda: report_json(judge(gather(scope), is_root=os.geteuid() == 0), is_pre=False))
    body = pack(parts, top, at)
    try:
        replace_file(path, body)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}; name another place with --out") from error
    click.echo(f"{path}: {size(len(body))}, {sum(isinstance(part, bytes) for part in parts.values())} parts")
    for name, part in sorted(parts.items()):
        if isinstance(part, Blind):
            click.echo(printable(f"missing: {name}: {part.why}"))
