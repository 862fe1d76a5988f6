"""Documents into parts: spellings, shapes, limits."""

import pytest

from nodeagent import limits
from nodeagent.catalog.policy.fitting import fit, fold
from nodeagent.model.policy.defaults import PassiveHealthCheck, ProxyDefaults, ServiceDefaults
from nodeagent.model.policy.intentions import ServiceIntentions
from nodeagent.model.policy.resolving import LoadBalancer, ServiceResolver
from nodeagent.model.policy.routing import Route, ServiceRouter
from tests.support.entries import MATCH


def said(document, shape):
    return [str(fault) for fault in fit(document, shape)[1]]


def test_spellings_of_a_key_fold_to_one():
    assert {fold(key) for key in ("PathExact", "path_exact", "pathExact", "PATH_EXACT")} == {"pathexact"}


def test_lists_of_one_stand_for_objects_and_objects_for_lists():
    """So a parser of HCL writes blocks in JSON."""
    assert fit({"match": [{"http": [MATCH["HTTP"]]}]}, Route) == fit({"Match": MATCH}, Route)
    assert fit({"Kind": "service-router", "Name": "a", "Routes": {"Match": MATCH}}, ServiceRouter)[0].routes[0].match is not None
    assert fit({"Kind": "service-resolver", "Name": "a", "Subsets": [{"v1": {}}]}, ServiceResolver)[0].subsets.keys() == {"v1"}


def test_null_is_what_was_not_said():
    assert fit({"Match": None}, Route) == (Route(), [])
    assert fit({"Subsets": {"v1": None}, "Kind": "service-resolver", "Name": "a"}, ServiceResolver)[0].subsets.keys() == {"v1"}


@pytest.mark.parametrize(
    ("document", "shape", "sentence"),
    [
        ({"Match": 5}, Route, "Match: must be an object with keys such as HTTP"),
        ({"Match": [{}, {}]}, Route, "Match: must be an object"),
        ({"Match": {"HTTP": {"Methods": "GET"}}}, Route, "Match.HTTP.Methods: must be a list"),
        ({"Match": {"HTTP": {"Methods": [5]}}}, Route, "Match.HTTP.Methods[0]: Expected a text in quotes, got a whole number"),
        ({"Match": {"HTTP": {"PathExact": "x" * (limits.POLICY_TEXT_CHARS + 1)}}}, Route, f"of length <= {limits.POLICY_TEXT_CHARS}"),
        ({"Match": {"HTTP": {"Header": [{"Exact": "a"}]}}}, Route, "Match.HTTP.Header[0].Name: is missing"),
        ({"Match": {"HTTP": {"PathExact": "\ud800"}}}, Route, "half of a surrogate pair"),
        ({"Destination": {"RequestTimeout": -1}}, Route, "Destination.RequestTimeout: -1 is no duration"),
        ({"Destination": {"ServiceSubset": "V1"}}, Route, "not a name of a subset"),
        ({5: 1}, Route, "5: no such key"),
        ({"a" * 1000: 1}, Route, "no such key"),
        ({"Policy": "ring-hash"}, LoadBalancer, "it is one of random, round_robin, least_request, ring_hash, maglev; did you mean ring_hash?"),
        ({"Interval": 1.5}, PassiveHealthCheck, "a duration is a text such as 30s"),
        ({"Subsets": 5}, ServiceResolver, "Subsets: must be an object"),
        ({"Subsets": {"V1": {}}}, ServiceResolver, "Subsets.V1: not a name of a subset"),
        ({"Config": 5}, ProxyDefaults, "Config: must be an object"),
        ({"Config": {"a": float("nan")}}, ProxyDefaults, "Config.a: is no number"),
        ({"Config": {"a": 2**63}}, ProxyDefaults, "Config.a: is too large a number"),
        ({"Config": {"a": {1, 2}}}, ProxyDefaults, "Config.a: is nothing that JSON can say"),
        ({"Meta": {"": "x"}}, ServiceDefaults, "Meta: Expected a text in quotes of length >= 1"),
    ],
)
def test_what_does_not_fit_is_said_with_its_path(document, shape, sentence):
    assert sentence in "\n".join(said(document, shape))


def test_a_long_list_a_large_entry_and_a_deep_one_are_refused():
    """Each once: an entry of a million rows has not as many complaints."""
    rows = [{"Name": "a", "Action": "allow"}] * (limits.POLICY_ROWS + 1)
    assert said({"Kind": "service-intentions", "Name": "a", "Sources": rows}, ServiceIntentions) == [
        f"Sources: has {limits.POLICY_ROWS + 1} rows, and may have {limits.POLICY_ROWS}"
    ]
    wide = {"Kind": "proxy-defaults", "Config": {"a": [0] * (limits.POLICY_NODES + 1)}}
    assert [line.partition(": ")[2] for line in said(wide, ProxyDefaults)] == [f"here the entry has more than {limits.POLICY_NODES} values"]
    many = {"Kind": "service-router", "Name": "a", "Routes": [{"Match": {"HTTP": {"Methods": ["GET"] * 60}}}] * limits.POLICY_ROWS}
    assert "values" in "\n".join(said(many, ServiceRouter))
    deep: object = 1
    for _ in range(limits.POLICY_DEPTH + 1):
        deep = [deep]
    assert "nested deeper" in "\n".join(said({"Kind": "proxy-defaults", "Config": {"a": deep}}, ProxyDefaults))


def test_not_more_than_so_many_faults_are_told():
    assert len(said({f"k{n}": 1 for n in range(500)}, Route)) == limits.POLICY_FAULTS
