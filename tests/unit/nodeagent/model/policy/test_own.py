"""Our own kinds follow the same rules."""

from nodeagent.model.policy.own import Copy, RetryBudget
from nodeagent.model.policy.values import body_of


def test_none_is_unsaid_and_zero_is_said():
    assert body_of(Copy(service="a", percent=0.0)) == {"Service": "a", "Percent": 0.0}
    assert body_of(RetryBudget(kind="retry-budget", name="*", ratio=0.0)) == {"Kind": "retry-budget", "Name": "*", "Ratio": 0.0}
