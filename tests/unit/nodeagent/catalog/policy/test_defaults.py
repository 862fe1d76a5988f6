"""service-defaults, proxy-defaults and mesh: good and bad."""

import pytest

from nodeagent.catalog.policy.defaults import mesh_faults, proxy_faults, service_faults
from tests.support.entries import FULL, bad, good


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"Protocol": "htp"}, "Protocol: Invalid enum value 'htp'; it is one of tcp, http, http2, grpc; did you mean http?"),
        ({"Expose": {"Paths": [{"Path": "x", "LocalPathPort": 1}]}}, "Expose.Paths[0].Path: 'x' does not begin with /"),
        ({"Expose": {"Paths": [{"Path": "/x"}]}}, "Expose.Paths[0].LocalPathPort: is missing"),
        (
            {"Expose": {"Paths": [{"Path": "/x", "LocalPathPort": 1, "ListenerPort": 5}, {"Path": "/y", "LocalPathPort": 1, "ListenerPort": 5}]}},
            "Expose.Paths[1].ListenerPort: 5 stands twice",
        ),
        ({"Destination": {"Port": 1}}, "Destination.Addresses: give at least one"),
        ({"Destination": {"Addresses": ["a"]}}, "Destination.Port: is missing"),
        ({"UpstreamConfig": {"Defaults": {"Name": "db"}}}, "UpstreamConfig.Defaults.Name: is for Overrides"),
        ({"UpstreamConfig": {"Overrides": [{}]}}, "UpstreamConfig.Overrides[0].Name: is missing"),
        ({"UpstreamConfig": {"Overrides": [{"Name": "Db"}]}}, "call it db"),
        ({"UpstreamConfig": {"Overrides": [{"Name": "db"}, {"Name": "db"}]}}, "UpstreamConfig.Overrides[1]: db stands twice"),
        ({"UpstreamConfig": {"Defaults": {"Limits": {"MaxConnections": -1}}}}, "UpstreamConfig.Defaults.Limits.MaxConnections: Expected"),
        (
            {"UpstreamConfig": {"Defaults": {"PassiveHealthCheck": {"MaxEjectionPercent": 101}}}},
            "PassiveHealthCheck.MaxEjectionPercent: Expected a whole number <= 100",
        ),
        ({"RateLimits": {"InstanceLevel": {"RequestsPerSecond": 5, "RequestsMaxBurst": 4}}}, "RateLimits.InstanceLevel: RequestsMaxBurst 4 is less"),
        ({"RateLimits": {"InstanceLevel": {"Routes": [{}]}}}, "RateLimits.InstanceLevel.Routes[0]: needs one of PathExact"),
        ({"RateLimits": {"InstanceLevel": {"Routes": [{"PathExact": "/", "PathPrefix": "/"}]}}}, "PathExact and PathPrefix are both set"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_service_defaults_is_said_with_its_path(said, sentence):
    assert sentence in bad("service-defaults", **said)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"Name": "web"}, "Name: Invalid enum value 'web'; it is one of global"),
        ({"Config": {"protocol": "udp"}}, "Config.protocol: 'udp' is no protocol"),
        ({"Config": {"protocol": [1]}}, "Config.protocol: '[1]' is no protocol"),
        ({"AccessLogs": {"JSONFormat": "a", "TextFormat": "b"}}, "JSONFormat and TextFormat are both set"),
        ({"AccessLogs": {"Path": "/x"}}, "AccessLogs.Path: goes with the Type file"),
        ({"AccessLogs": {"Type": "file"}}, "AccessLogs.Path: goes with the Type file"),
        ({"Expose": {"Paths": [{"Path": "x"}]}}, "Expose.Paths[0].Path"),
    ],
)
def test_what_is_wrong_in_proxy_defaults_is_said_with_its_path(said, sentence):
    assert sentence in bad("proxy-defaults", **({"Name": "global"} | said))


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"TLS": {"Incoming": {"TLSMinVersion": "TLSv1_3", "TLSMaxVersion": "TLSv1_2"}}}, "TLS.Incoming: TLSMinVersion TLSv1_3 is above"),
        ({"TLS": {"Outgoing": {"TLSMinVersion": "TLSv1_3", "CipherSuites": ["a"]}}}, "TLS.Outgoing.CipherSuites: TLS 1.3 has its own"),
        ({"HTTP": {"Incoming": {"RequestNormalization": {"HeadersWithUnderscoresAction": "KEEP"}}}}, "HeadersWithUnderscoresAction: Invalid enum value 'KEEP'"),
    ],
)
def test_what_is_wrong_in_the_mesh_entry_is_said_with_its_path(said, sentence):
    assert sentence in bad("mesh", **({"Name": "mesh"} | said))


def test_the_full_entries_are_sound():
    checks = {"service-defaults": service_faults, "proxy-defaults": proxy_faults, "mesh": mesh_faults}
    assert [fault for kind, check in checks.items() for fault in check(good(FULL[kind]).spec)] == []
