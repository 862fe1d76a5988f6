"""What was said about the requests to a service."""

import pytest

from nodeagent.model.policy.own import RetryBudget
from nodeagent.model.traffic import Traffic
from tests.support.routes import resolver, router, splitter


@pytest.mark.parametrize(
    ("said", "is_routed"),
    [
        (Traffic(), False),
        (Traffic(retry_budget=RetryBudget(kind="retry-budget", name="*")), False),
        (router("web"), True),
        (splitter("web"), True),
        (resolver("web"), True),
        (Traffic(balance_dialled=True), True),
        (Traffic(unreadable=("service-router",)), True),
    ],
)
def test_whose_requests_are_routed(said: Traffic, *, is_routed: bool) -> None:
    """Where an entry leads them somewhere, even one that nobody understands, or the operator wants it."""
    assert is_routed == said.is_routed
