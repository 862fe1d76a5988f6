"""The two words of policy."""

from typing import get_args

from nodeagent.model.action import Action


def test_there_are_two_actions() -> None:
    """Whatever is neither is refused where it is read."""
    assert ("allow", "deny") == get_args(Action)
