"""Seconds on the command line."""

import click
import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main
from nodeagent.cli.seconds import Span


@pytest.mark.parametrize("argv", [["check", "--wait"], ["drain", "--wait"], ["catalog", "--data", "/nowhere", "--leaf-ttl"]], ids=" ".join)
@pytest.mark.parametrize("value", ["nan", "-1", "inf", "soon"])
def test_what_is_no_time_is_a_usage_error(argv: list[str], value: str) -> None:
    """Nobody waits until nan."""
    result = CliRunner().invoke(main, [*argv, value])
    assert (result.exit_code, argv[-1] in result.output) == (2, True), result.output


@pytest.mark.parametrize("value", ["soon", "30s", "nan", ""])
def test_what_is_no_number_is_said_with_an_example(value: str) -> None:
    """In words, not by the name of a type."""
    assert f"'{value}' is no number of seconds, such as 30" in CliRunner().invoke(main, ["check", "--wait", value]).output


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1h", 3600), ("30d", 2_592_000)])
def test_a_time_may_have_a_unit(text: str, seconds: int) -> None:
    """As systemd and Consul write it, in one unit."""
    assert Span(2_592_000).convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1h", "1.5h", "h", "1w", "2592001", "31d", "1h 30m", "\N{SUPERSCRIPT TWO}d", "9" * 5000])
def test_what_is_no_such_time_is_said_with_an_example(text: str) -> None:
    """Too long is no time either."""
    with pytest.raises(click.BadParameter, match="such as 90s, 30m, 1h or 2d, of at most 30d"):
        Span(2_592_000).convert(text, None, None)
