"""`nodeagent config`: judges a configuration before anybody uses it."""

from pathlib import Path

import click

from nodeagent.config import load_config


@click.group()
def config() -> None:
    """The agent's configuration file."""


@config.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
def validate(path: Path) -> None:
    """Exit 0 when the agent of this version takes FILE; else what is wrong with it, and the cure.

    Neither users nor other files that it names are looked at: they may come later. That is for `nodeagent check --pre`.
    """
    load_config(path)
    click.echo(f"{path}: valid")
