"""Consul's precedence."""

import pytest

from nodeagent.model.intention import Intention


@pytest.mark.parametrize(("source", "destination", "rank"), [("a", "b", 9), ("*", "b", 8), ("a", "*", 6), ("*", "*", 5)])
def test_a_more_specific_intention_ranks_higher(source: str, destination: str, rank: int) -> None:
    """The destination counts before the source."""
    assert rank == Intention(source, destination, "allow").precedence


def test_an_intention_reads_as_a_sentence() -> None:
    """The text is what permits, refusals and logs show."""
    assert "shop -> web (deny)" == str(Intention("shop", "web", "deny"))
