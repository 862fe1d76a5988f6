"""Seconds on the command line."""

import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main


@pytest.mark.parametrize("argv", [["check", "--wait"], ["drain", "--wait"], ["catalog", "--data", "/nowhere", "--leaf-ttl"]], ids=" ".join)
@pytest.mark.parametrize("value", ["nan", "-1", "inf", "soon"])
def test_what_is_no_time_is_a_usage_error(argv: list[str], value: str) -> None:
    """Nobody waits until nan."""
    result = CliRunner().invoke(main, [*argv, value])
    assert (result.exit_code, argv[-1] in result.output) == (2, True), result.output
