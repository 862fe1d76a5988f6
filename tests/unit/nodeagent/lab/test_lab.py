"""The lab as one object; all of it at work in tests/e2e/test_lab.py."""

import pytest

from nodeagent.lab.errors import LabError
from nodeagent.lab.lab import Lab


def test_a_lab_that_is_not_up_can_do_nothing() -> None:
    """Every method says so, none acts on the machine itself."""
    lab = Lab("no-such-lab")
    for attempt in (
        lambda: lab.command("host1", ["id"]),
        lambda: lab.run("host1", "web", ["id"]),
        lambda: lab.kill_agent("host1"),
        lambda: lab.catalog("GET", "/v1/catalog/nodes"),
    ):
        with pytest.raises(LabError, match="no lab 'no-such-lab' is up"):
            attempt()
