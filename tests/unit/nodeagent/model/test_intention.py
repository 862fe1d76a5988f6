"""Consul's precedence."""

import pytest

from nodeagent.model.action import Action
from nodeagent.model.intention import Intention
from nodeagent.model.policy.intentions import Permission, PermissionMatch


@pytest.mark.parametrize(("source", "destination", "rank"), [("a", "b", 9), ("*", "b", 8), ("a", "*", 6), ("*", "*", 5)])
def test_a_more_specific_intention_ranks_higher(source: str, destination: str, rank: int) -> None:
    """The destination counts before the source."""
    assert rank == Intention(source, destination, "allow").precedence


def test_an_intention_reads_as_a_sentence() -> None:
    """The text is what permits, refusals and logs show."""
    assert "shop -> web (deny)" == str(Intention("shop", "web", "deny"))


ALLOW, DENY = Permission(action="allow", http=PermissionMatch(path_prefix="/v1")), Permission(action="deny", http=PermissionMatch(path_prefix="/"))


@pytest.mark.parametrize(
    ("action", "permissions", "word"),
    [("deny", (DENY, ALLOW), "by request"), ("deny", (DENY,), "deny"), ("deny", (), "deny"), ("allow", (), "allow")],
)
def test_who_allows_some_requests_and_not_all_says_so(action: Action, permissions: tuple[Permission, ...], word: str) -> None:
    """Permissions that allow nothing are a plain deny."""
    row = Intention("shop", "web", action, permissions)
    assert (word, word == "by request", f"shop -> web ({word})") == (row.word, row.is_by_request, str(row))
