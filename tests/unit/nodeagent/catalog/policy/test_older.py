"""What a Consul before 1.9 refuses, without asking it."""

import pytest

from nodeagent.catalog.policy.older import unknown_keys

ROUTE = {"Match": {"HTTP": {"PathPrefix": "/", "CaseInsensitive": True}}, "Destination": {"Service": "api", "RetryOn": ["reset"], "NumRetries": 1}}


@pytest.mark.parametrize(
    ("kind", "said", "unknown"),
    [
        ("service-router", {"Routes": [{}, ROUTE]}, ["Routes[1].Match.HTTP.CaseInsensitive", "Routes[1].Destination.RetryOn"]),
        ("service-resolver", {"Failover": {"*": {"Targets": []}, "v1": {"Service": "x"}}, "Subsets": {"LoadBalancer": {}}}, ["Failover[*].Targets"]),
        ("service-resolver", {"LoadBalancer": {"Policy": "random"}}, ["LoadBalancer"]),
        ("service-splitter", {"Splits": [{"Weight": 100, "RequestHeaders": {}}]}, ["Splits[0].RequestHeaders"]),
        ("service-defaults", {"Protocol": "http", "Meta": {"Mode": "x"}}, []),
        ("proxy-defaults", {"Config": {"Mode": "x"}, "AccessLogs": {}}, ["AccessLogs"]),
        ("mirror", {"LoadBalancer": 1}, []),
    ],
)
def test_each_key_is_told_with_its_path(kind, said, unknown):
    assert unknown_keys(kind, said) == unknown
