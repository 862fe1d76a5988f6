"""`--data` behind a command that works on the embedded catalog's directory."""

from pathlib import Path
from typing import Any

import click


class DataDirectory(click.Path):
    """click's: a directory with a catalog. None is no name of one: the current directory would be taken for it."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; a usage error where it is empty."""
        if not str(value):
            self.fail("is empty; name the catalog's directory, . for this one", param, ctx)
        return super().convert(value, param, ctx)


def _moved(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    """click's: what --data names after the subcommand holds instead of what it names before."""
    if value is not None:
        ctx.obj = value


data_option = click.option(
    "--data", type=DataDirectory(), callback=_moved, expose_value=False,
    help="The catalog's directory, unless it stands behind `nodeagent catalog` already.",
)  # fmt: skip
