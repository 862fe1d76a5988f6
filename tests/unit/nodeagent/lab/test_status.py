"""What is told about labs; of real ones in tests/e2e/test_lab.py."""

from nodeagent.lab import status


def test_a_lab_that_is_not_there_says_so() -> None:
    """Instead of failing: a list of labs goes on."""
    told = status.read_status("no-such-lab")
    assert told.name == "no-such-lab"
    assert "no lab 'no-such-lab' is up" in told.broken
    assert told.hosts == ()
