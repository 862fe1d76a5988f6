"""Which rule decides the requests of a pair."""

import pytest

from nodeagent.decide.request_rule import RequestRule, rule_of
from tests.support.by_request import ADMIN_NOT, by_request
from tests.support.mesh import mesh


@pytest.mark.parametrize(
    ("rows", "source", "is_allowed", "by"),
    [
        (["shop -> web allow"], "shop", True, "shop -> web (allow)"),
        (["* -> web deny", "* -> * allow"], "shop", False, "* -> web (deny)"),
        ([], "shop", False, "default deny"),
        (["* -> web allow"], "", False, "an unidentified workload"),
        (["* -> web allow"], "*", False, "an unidentified workload"),
    ],
)
def test_without_permissions_every_request_is_as_the_connection(rows: list[str], source: str, is_allowed: bool, by: str) -> None:  # noqa: FBT001 - a table's column
    assert RequestRule(source, "web", (), is_allowed, by) == rule_of(mesh(*rows), source, "web")


def test_the_one_intention_that_decides_the_pair_brings_its_permissions() -> None:
    """No other one is asked, also where none of them matches."""
    snapshot = by_request("shop -> web", "* -> web allow", "cart -> web deny")
    assert RequestRule("shop", "web", ADMIN_NOT, is_allowed_otherwise=False, by="shop -> web (by request)") == rule_of(snapshot, "shop", "web")
    assert () == rule_of(snapshot, "cart", "web").permissions
    assert rule_of(snapshot, "till", "web").is_allowed_otherwise
