"""Holder processes; real ones are in tests/e2e/test_lab.py."""

import pytest

from nodeagent.lab import holder


@pytest.mark.parametrize("printed", ["pid 12\nready\n", "ready\npid 12\n"])
def test_shell_and_holder_may_print_in_either_order(printed: str) -> None:
    """They run at the same time."""
    assert holder._try_pid(printed) == 12


@pytest.mark.parametrize("printed", ["", "pid 12\n", "ready\n", "pid 12\nmount: no\n"])
def test_a_holder_that_did_not_get_ready_is_none(printed: str) -> None:
    """Its namespaces may be half made."""
    assert holder._try_pid(printed) is None
