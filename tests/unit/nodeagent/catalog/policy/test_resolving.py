"""service-resolver: good and bad."""

import pytest

from nodeagent import limits
from nodeagent.catalog.policy.resolving import resolver_doubts, resolver_faults
from nodeagent.model.policy.resolving import Redirect, ServiceResolver, Subset
from tests.support.entries import bad

V1 = {"v1": {"Filter": "Service.Meta.v == 1"}}


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"DefaultSubset": "v2", "Subsets": V1}, "DefaultSubset: 'v2' is none of the Subsets (v1)"),
        ({"Subsets": {"": {}}}, "Subsets: a subset needs a name"),
        ({"Subsets": {f"v{n}": {} for n in range(limits.SUBSETS + 1)}}, "Subsets: has 65, and may have 64"),
        ({"Subsets": {"v1": {"Filter": "Service.Meta.v = 1"}}}, "Subsets.v1.Filter: not an expression"),
        ({"Redirect": {}}, "Redirect: is empty"),
        ({"Redirect": {"ServiceSubset": "v1"}}, "Redirect.ServiceSubset: needs a Service"),
        ({"Redirect": {"Service": "web"}}, "Redirect.Service: leads to the service itself"),
        ({"Redirect": {"Service": "a", "Peer": "p", "Datacenter": "d"}}, "Redirect: at most one of Peer, Datacenter and SamenessGroup"),
        ({"Failover": {"v9": {"Service": "a"}}}, "Failover.v9: 'v9' is none of the Subsets (there are none); * is for all"),
        ({"Failover": {"*": {}}}, "Failover.*: needs one of"),
        ({"Failover": {"*": {"Service": "a", "Targets": [{"Service": "b"}]}}}, "Failover.*: needs one of"),
        ({"Failover": {"*": {"Datacenters": [""]}}}, "Failover.*.Datacenters[0]: is empty"),
        ({"Failover": {"*": {"ServiceSubset": "v3"}}}, "Failover.*.ServiceSubset: 'v3' is none"),
        ({"Failover": {"*": {"Targets": [{"ServiceSubset": "v3"}]}}}, "Failover.*.Targets[0].ServiceSubset: 'v3' is none"),
        ({"Failover": {"*": {"Targets": [{"Peer": "p", "Datacenter": "d"}]}}}, "Peer goes with neither"),
        ({"Failover": {"*": {"Service": "a", "Policy": {"Mode": "first"}}}}, "Failover.*.Policy.Mode: Invalid enum value"),
        ({"LoadBalancer": {"RingHashConfig": {}}}, "LoadBalancer.RingHashConfig: needs the Policy ring_hash"),
        ({"LoadBalancer": {"LeastRequestConfig": {}}}, "LoadBalancer.LeastRequestConfig: needs the Policy least_request"),
        (
            {"LoadBalancer": {"Policy": "ring_hash", "RingHashConfig": {"MinimumRingSize": 9, "MaximumRingSize": 8}}},
            "MinimumRingSize is at most MaximumRingSize",
        ),
        ({"LoadBalancer": {"HashPolicies": [{"SourceIP": True}]}}, "LoadBalancer.HashPolicies: need the Policy ring_hash or maglev"),
        ({"LoadBalancer": {"Policy": "maglev", "HashPolicies": [{}]}}, "HashPolicies[0]: needs Field and FieldValue, or SourceIP"),
        ({"LoadBalancer": {"Policy": "maglev", "HashPolicies": [{"SourceIP": True, "Field": "header"}]}}, "SourceIP goes with no Field"),
        (
            {"LoadBalancer": {"Policy": "maglev", "HashPolicies": [{"Field": "header", "FieldValue": "a", "CookieConfig": {}}]}},
            "HashPolicies[0].CookieConfig: needs the Field cookie",
        ),
        (
            {"LoadBalancer": {"Policy": "maglev", "HashPolicies": [{"Field": "cookie", "FieldValue": "a", "CookieConfig": {"Session": True, "TTL": "1s"}}]}},
            "Session and TTL are both set",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_path(said, sentence):
    assert sentence in bad("service-resolver", **said)


def test_a_redirect_with_more_is_doubted():
    said = ServiceResolver(kind="service-resolver", name="web", redirect=Redirect(service="a"), subsets={"v1": Subset()})
    assert [each.path for each in resolver_doubts(said)] == ["Redirect"]
    assert list(resolver_faults(said)) == []
    assert list(resolver_doubts(ServiceResolver(kind="service-resolver", name="web", redirect=Redirect(service="a")))) == []
