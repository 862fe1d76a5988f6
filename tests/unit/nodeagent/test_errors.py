"""Reasons of refusal: a closed set, each with its two facts."""

import pytest

from nodeagent import errors
from nodeagent.errors import AgentError, Reason, Side

AGENT_ERRORS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, AgentError)]


@pytest.mark.parametrize("error", AGENT_ERRORS)
def test_every_refusal_says_what_and_whose(error: type[AgentError]) -> None:
    """Reason and side from the closed sets, which are also metric labels; a docstring that explains it."""
    assert isinstance(error.reason, Reason)
    assert error.side in set(Side) - {Side.NONE}
    assert error.__doc__


def test_no_two_refusals_share_a_reason() -> None:
    """Who reads the log can tell them apart."""
    reasons = [error.reason for error in AGENT_ERRORS]
    assert len(set(reasons)) == len(reasons)
