"""Routes and splits in Consul's words."""

from nodeagent.model.policy.routing import RouteDestination, Split
from nodeagent.model.policy.values import Duration, body_of


def test_what_is_unsaid_is_zero_and_not_written():
    assert RouteDestination().request_timeout.seconds == 0
    assert body_of(RouteDestination(service="a", request_timeout=Duration(10**9))) == {"Service": "a", "RequestTimeout": "1s"}
    assert body_of(Split(weight=12.5)) == {"Weight": 12.5}
