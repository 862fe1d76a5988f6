"""service-router and service-splitter: good and bad."""

import pytest

from nodeagent.catalog.policy.routing import matches_all, router_doubts, router_faults, splitter_faults
from nodeagent.model.policy.http import HttpMatch, RequestMatch
from nodeagent.model.policy.routing import Route, ServiceRouter, ServiceSplitter, Split
from tests.support.entries import bad


@pytest.mark.parametrize(
    ("route", "sentence"),
    [
        ({"Match": {"HTTP": {"PathExact": "/a", "PathPrefix": "/b"}}}, "Routes[0].Match.HTTP: PathExact and PathPrefix are both set"),
        ({"Destination": {"PrefixRewrite": "/"}}, "Routes[0].Destination.PrefixRewrite: needs a PathExact or PathPrefix"),
        ({"Match": {"HTTP": {"PathRegex": "a"}}, "Destination": {"PrefixRewrite": "/"}}, "needs a PathExact or PathPrefix"),
        ({"Match": {"HTTP": {"PathPrefix": "/a"}}, "Destination": {"PrefixRewrite": "b"}}, "'b' does not begin with /"),
        ({"Destination": {"RetryOn": ["5xxx"]}}, "Routes[0].Destination.RetryOn[0]: Invalid enum value '5xxx'"),
        ({"Destination": {"RetryOnStatusCodes": [99]}}, "RetryOnStatusCodes[0]: Expected a whole number >= 100"),
        ({"Destination": {"IdleTimeout": "soon"}}, "Destination.IdleTimeout: 'soon' is no duration"),
    ],
)
def test_a_bad_route_is_said_with_its_path(route, sentence):
    assert sentence in bad("service-router", Routes=[route])


def test_a_route_that_hides_others_is_doubted():
    """Only where there are others: at the end it is what is meant."""
    all_of_them = Route(match=RequestMatch(http=HttpMatch(path_prefix="/")))
    narrow = Route(match=RequestMatch(http=HttpMatch(path_prefix="/a")))
    router = ServiceRouter(kind="service-router", name="web", routes=(narrow, all_of_them, narrow, narrow))
    assert [str(each) for each in router_doubts(router)] == ["Routes[1]: takes every request: the 2 after it are never reached"]
    assert list(router_doubts(ServiceRouter(kind="service-router", name="web", routes=(narrow, all_of_them)))) == []
    assert [matches_all(each) for each in (Route(), all_of_them, narrow)] == [True, True, False]
    assert list(router_faults(router)) == []


def splits(*weights):
    made = tuple(Split(weight=weight, service=f"s{number}") for number, weight in enumerate(weights))
    return [str(each) for each in splitter_faults(ServiceSplitter(kind="service-splitter", name="web", splits=made))]


@pytest.mark.parametrize("weights", [(100,), (50, 50), (33.33, 33.33, 33.34), (0.01, 99.99), (0, 100), (33.333, 33.333, 33.337), (10.1, 20.2, 69.7)])
def test_weights_that_are_100_together_are_taken(weights):
    assert splits(*weights) == []


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ((), "Splits: give at least one"),
        ((50, 49), "Splits: the weights sum to 99, not to 100"),
        ((33.33, 33.33, 33.33), "the weights sum to 99.99"),
        ((50, 50.01), "the weights sum to 100.01"),
        ((0.004, 100), "Splits[0].Weight: 0.004 is less than 0.01"),
    ],
)
def test_weights_that_are_not_are_refused(weights, sentence):
    assert sentence in "\n".join(splits(*weights))


def test_a_target_stands_once():
    assert "Splits[1]: web subset v1 stands twice" in bad(
        "service-splitter", Splits=[{"Weight": 50, "ServiceSubset": "v1"}, {"Weight": 50, "Service": "web", "ServiceSubset": "v1"}]
    )
    assert "Splits[0].Weight: Expected a number <= 100" in bad("service-splitter", Splits=[{"Weight": 101}])
