"""`--data` behind a command that works on the embedded catalog's directory."""

from pathlib import Path

import click


def _moved(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    """click's: what --data names after the subcommand holds instead of what it names before."""
    if value is not None:
        ctx.obj = value


data_option = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), callback=_moved, expose_value=False,
    help="The catalog's directory, unless it stands behind `nodeagent catalog` already.",
)  # fmt: skip
