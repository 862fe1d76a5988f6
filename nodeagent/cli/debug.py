"""`nodeagent debug bundle`: what a support request needs, without secrets."""

import errno
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
    _check_free(path)
    click.echo("collecting", err=True)
    parts = collect(scope, lambda: report_json(judge(gather(scope), is_root=os.geteuid() == 0), is_pre=False))
    body = pack(parts, top, at)
    try:
        replace_file(path, body)
    except OSError as error:
        raise _no_place(path, error) from error
    click.echo(f"{path}: {size(len(body))}, {sum(isinstance(part, bytes) for part in parts.values())} parts")
    for name, part in sorted(parts.items()):
        if isinstance(part, Blind):
            click.echo(printable(f"missing: {name}: {part.why}"))
    if os.geteuid() != 0:
        click.echo("only root sees all of this host: run it with sudo for the rest", err=True)


def _check_free(path: Path) -> None:
    """Raises ClickException: something is there, or the place takes nothing; said before much is collected for it."""
    try:
        path.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _no_place(path, error) from error
    else:
        raise click.ClickException(f"{path} is there already; name another file with --out")
    if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
        number = errno.EACCES if path.parent.exists() else errno.ENOENT
        raise _no_place(path, OSError(number, os.strerror(number)))


def _no_place(path: Path, error: OSError) -> click.ClickException:
    return click.ClickException(f"{path} cannot be written: {error.strerror}; name another place with --out")
