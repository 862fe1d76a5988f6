"""Defaults in Consul's words."""

from nodeagent.model.policy.defaults import CallLimits, PassiveHealthCheck, ProxyDefaults, TlsRange
from nodeagent.model.policy.values import body_of


def test_a_limit_of_zero_is_a_limit():
    """Unsaid it is Envoy's own."""
    assert body_of(CallLimits(max_connections=0)) == {"MaxConnections": 0}
    assert body_of(PassiveHealthCheck(enforcing_consecutive_5xx=0)) == {"EnforcingConsecutive5xx": 0}
    assert body_of(TlsRange(tls_min_version="TLSv1_2")) == {"TLSMinVersion": "TLSv1_2"}


def test_the_protocol_of_all_is_in_the_free_part():
    assert ProxyDefaults(kind="proxy-defaults", config={"protocol": "http"}).protocol == "http"
    assert ProxyDefaults(kind="proxy-defaults").protocol == ""
