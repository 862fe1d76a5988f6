"""`--data` behind a command."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nodeagent.cli.catalog_data import data_option
from nodeagent.cli.main import main


@click.group()
@click.option("--data", type=click.Path(path_type=Path))
@click.pass_context
def outer(ctx: click.Context, data: Path) -> None:
    ctx.obj = data


@outer.command()
@data_option
@click.pass_obj
def inner(data: Path) -> None:
    click.echo(data)


@pytest.mark.parametrize(("argv", "named"), [(("--data", "a", "inner"), "a"), (("inner", "--data", "b"), "b"), (("--data", "a", "inner", "--data", "b"), "b")])
def test_the_directory_is_the_one_that_was_named_last(argv: tuple[str, ...], named: str) -> None:
    assert CliRunner().invoke(outer, argv).output == f"{named}\n"


def test_an_empty_name_is_not_taken_for_the_current_directory() -> None:
    for argv in (["catalog", "--data", ""], ["catalog", "token", "list", "--data", ""]):
        done = CliRunner().invoke(main, argv)
        assert (done.exit_code, "is empty; name the catalog's directory" in done.output) == (2, True)
