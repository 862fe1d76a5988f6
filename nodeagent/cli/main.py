"""The `nodeagent` command: finds the sub-command and loads only its module."""

import errno
import importlib
import os
from typing import Any

import click

from nodeagent import __version__
from nodeagent.errors import (
    AgentError,
    CatalogError,
    CatalogTimeout,
    CatalogUnreachable,
    ConfigError,
    ConfigMissing,
    NotInCatalog,
    PolicyError,
)

COMMANDS = {
    "run": "nodeagent.cli.run:run",
    "check": "nodeagent.cli.check:check",
    "status": "nodeagent.cli.status:status",
    "connections": "nodeagent.cli.connections:connections",
    "services": "nodeagent.cli.services:services",
    "certs": "nodeagent.cli.certs:certs",
    "why": "nodeagent.cli.why:why",
    "route": "nodeagent.cli.route:route",
    "enforce": "nodeagent.cli.enforce:enforce",
    "drain": "nodeagent.cli.drain:drain",
    "undrain": "nodeagent.cli.drain:undrain",
    "intention": "nodeagent.cli.intention:intention",
    "policy": "nodeagent.cli.policy:policy",
    "service": "nodeagent.cli.service:service",
    "upgrade": "nodeagent.cli.upgrade:upgrade",
    "intercept": "nodeagent.cli.intercept:intercept",
    "config": "nodeagent.cli.config:config",
    "debug": "nodeagent.cli.debug:debug",
    "completion": "nodeagent.cli.completion:completion",
    "ca": "nodeagent.cli.ca:ca",
    "catalog": "nodeagent.cli.catalog:catalog",
    "lab": "nodeagent.cli.lab:lab",
}

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_NOT_FOUND, EXIT_TIMEOUT = 1, 2, 3, 4, 5

EXIT_OF: dict[type[Exception], int] = {
    CatalogUnreachable: EXIT_UNREACHABLE, NotInCatalog: EXIT_NOT_FOUND, CatalogTimeout: EXIT_TIMEOUT,
    ConfigMissing: EXIT_NOT_FOUND,
}  # fmt: skip
"""Where it is not EXIT_FAILED."""

_OF_PLACES = (errno.EACCES, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EROFS)
"""What is wrong with a path, and not with this program, whichever step of it looked there."""


class _Lazy(click.Group):
    """A group whose commands are imported when they are asked for: start-up is felt at every call."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, else a usage error with the one that was probably meant: click knows only commands that are loaded."""
        if args and not ctx.resilient_parsing and args[0] not in COMMANDS and not args[0].startswith("-"):
            from nodeagent.tables import suggest  # noqa: PLC0415 - imports that no command which is there needs

            ctx.fail(f"No such command {args[0]!r}{suggest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; our own errors become one line on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except PolicyError as error:
            for fault in error.faults:
                click.ClickException(shown(fault)).show()
            ctx.exit(EXIT_FAILED)
        except click.UsageError:  # it quotes the command line alone, and click shows it with the usage
            raise
        except click.ClickException as error:
            click.ClickException(shown(error.format_message())).show()
            ctx.exit(error.exit_code)
        except (ConfigError, CatalogError, AgentError) as error:
            click.ClickException(shown(str(error))).show()
            ctx.exit(EXIT_OF.get(type(error), EXIT_FAILED))
        except OSError as error:
            if error.errno in _OF_PLACES and error.filename is not None:
                click.ClickException(shown(f"{error.filename}: {error.strerror}; is it the path that was meant? Else try sudo")).show()
                ctx.exit(EXIT_FAILED)
            if error.errno != errno.ENOSPC:
                raise
            if error.filename is not None:
                click.ClickException(shown(f"{error.filename}: {error.strerror}: make room on that disk")).show()
                ctx.exit(EXIT_FAILED)
            click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
            os._exit(EXIT_FAILED)  # leaving in order would try to write the rest


def shown(text: str) -> str:
    """Line for line without what a terminal would obey: it may be an agent's, a catalog's or a file's."""
    from nodeagent.cli.render import printable  # noqa: PLC0415 - imports that a command which ends well may do without

    return "\n".join(map(printable, text.split("\n")))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="nodeagent")
def main() -> None:
    """A service mesh for plain Linux hosts: one daemon per host, no change to applications."""
