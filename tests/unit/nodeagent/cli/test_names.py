"""Names on the command line."""

import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main

BAD = "a b"


@pytest.mark.parametrize(
    "argv",
    [
        ["service", "register", BAD, "--port", "80"],
        ["service", "register", "", "--port", "80"],
        ["enforce", "--check", "--service", BAD],
        ["enforce", "observe", "--yes", "--service", ""],
        ["connections", "--service", BAD],
        ["connections", "--service", ""],
        ["why", "--from", BAD, "--to", "web"],
        ["why", "--to", BAD],
        ["why", "--to", ""],
    ],
    ids=" ".join,
)
def test_what_cannot_be_a_service_is_a_usage_error(argv: list[str]) -> None:
    """Before the agent or the catalog is asked: neither is there."""
    result = CliRunner().invoke(main, argv)
    assert (result.exit_code, "cannot name a service" in result.output) == (2, True), result.output


def test_an_option_that_is_not_given_is_no_name() -> None:
    """The agent is asked, and is not there."""
    assert CliRunner().invoke(main, ["connections", "--socket", "/nowhere/api.sock"]).exit_code == 3
