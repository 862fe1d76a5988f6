"""What of entries agents act on."""

import pytest

from nodeagent.catalog.policy.acted import unacted_on
from tests.support.entries import FULL, good

INTENTIONS = {"Kind": "service-intentions", "Name": "web"}
DEFAULTS = {"Kind": "service-defaults", "Name": "web"}
ALLOW = {"Action": "allow", "HTTP": {"PathPrefix": "/"}}
TOKEN = {"Providers": [{"Name": "okta"}]}
KEPT, JWT = "kept, not yet acted on", "a JWT cannot be checked yet: sources and permissions that ask for one deny"


@pytest.mark.parametrize("kind", ["service-router", "service-splitter", "service-resolver", "retry-budget"])
def test_where_requests_go_and_how_often_they_are_tried_is_acted_on(kind: str) -> None:
    """As a whole."""
    assert "" == unacted_on(good(FULL[kind]).spec)


@pytest.mark.parametrize("kind", ["mirror", "fault", "rate-limit", "jwt-provider"])
def test_some_kinds_are_only_kept(kind: str) -> None:
    """And each of them says so."""
    assert KEPT == unacted_on(good(FULL[kind]).spec)


@pytest.mark.parametrize(
    ("said", "unacted"),
    [
        (INTENTIONS | {"Sources": [{"Name": "shop", "Permissions": [ALLOW]}]}, ""),
        (INTENTIONS | {"Sources": [{"Name": "shop", "Permissions": [{**ALLOW, "JWT": TOKEN}]}]}, JWT),
        (INTENTIONS | {"Sources": [{"Name": "shop", "Action": "allow"}], "JWT": TOKEN}, JWT),
        (DEFAULTS | {"Protocol": "http", "Meta": {"owner": "ops"}}, ""),
        (DEFAULTS | {"Protocol": "http", "MeshGateway": {}, "Expose": {}, "ExternalSNI": ""}, ""),  # as Consul shows it
        (DEFAULTS | {"Protocol": "http", "Expose": {"Checks": True}, "LocalRequestTimeoutMs": 5}, f"{KEPT} (Expose, LocalRequestTimeoutMs)"),
        (DEFAULTS | {"UpstreamConfig": {"Defaults": {"Limits": {"MaxConnections": 3}}, "Overrides": [
            {"Name": "api", "ConnectTimeoutMs": 5, "Protocol": "http"}, {"Name": "db", "PassiveHealthCheck": {"MaxFailures": 1}},
        ]}}, f"{KEPT} (UpstreamConfig.Overrides.Protocol)"),
        ({"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}, ""),
        ({"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http", "x": 1}, "Mode": "direct"}, f"{KEPT} (Config.x, Mode)"),
        ({"Kind": "mesh", "HTTP": {"Incoming": {"RequestNormalization": {"MergeSlashes": True}}}}, ""),
        ({"Kind": "mesh", "HTTP": {"Incoming": {"RequestNormalization": {"MergeSlashes": True, "HeadersWithUnderscoresAction": "DROP_HEADER"}}}},
         f"{KEPT} (HTTP.Incoming.RequestNormalization.HeadersWithUnderscoresAction)"),
        ({"Kind": "mesh", "HTTP": {"SanitizeXForwardedClientCert": True}, "TLS": {"Incoming": {"TLSMinVersion": "TLSv1_3"}}},
         f"{KEPT} (TLS, HTTP.SanitizeXForwardedClientCert)"),
    ],
)  # fmt: skip
def test_what_is_kept_beside_what_is_acted_on_is_named(said: dict, unacted: str) -> None:
    """By its path; what describes the entry acts on nobody."""
    assert unacted == unacted_on(good(said).spec)
