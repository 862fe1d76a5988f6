"""Commands for the tests of the command line itself."""

import click

from nodeagent.errors import ConfigError


@click.command
def broken() -> None:
    """A command that fails."""
    raise ConfigError("host.mode: no such mode")
