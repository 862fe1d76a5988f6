"""`nodeagent config`: judges a configuration before anybody uses it."""

import os
from pathlib import Path

import click

from nodeagent.cli.main import EXIT_FAILED
from nodeagent.cli.render import output_option, printable, show_json, warn
from nodeagent.closed_files import closed_to_root
from nodeagent.config import DEFAULT_PATH, find_faults, read_text
from nodeagent.consul_environ import scopes_in
from nodeagent.control.report import API_VERSION


@click.group()
def config() -> None:
    """The agent's configuration file."""


@config.command()
@click.argument("path", metavar="[FILE]", type=click.Path(path_type=Path), default=DEFAULT_PATH)
@output_option
def validate(path: Path, output: str) -> None:
    """Exit 0 when the agent of this version takes FILE; else all that is wrong with it, each with its key and the cure.

    FILE is /etc/nodeagent/nodeagent.toml unless told otherwise.
    Neither users nor other files that it names are looked at: they may come later. The start and a reload look at them.
    """
    faults = find_faults(read_text(path), os.environ)
    for scope in () if faults else scopes_in(os.environ):
        warn(scope)
    if os.geteuid() == 0 and (closed := closed_to_root(path)):
        warn(f"the agent cannot read it, as root has no CAP_DAC_OVERRIDE in the service: {closed.what}; {closed.cure}")
    if output == "json":
        show_json({"apiVersion": API_VERSION, "file": str(path), "valid": not faults, "faults": list(faults)})
    elif not faults:
        click.echo(f"{path}: valid")
    for fault in faults if output == "table" else ():
        click.ClickException(f"{path}: {printable(fault)}").show()
    if faults:
        raise SystemExit(EXIT_FAILED)
