"""Answers of Consul 1.9 to 1.21 as its API documentation has them: every field that it shows, also those that nobody reads here."""

from typing import Any

_MARKS = {"CreateIndex": 51, "ModifyIndex": 57}
_NODE = {
    "ID": "40e4a748-2192-161a-0510-9bf59fe950b5", "Node": "host1", "Address": "10.77.0.1", "Datacenter": "dc1", "Partition": "default", "PeerName": "",
    "TaggedAddresses": {"lan": "10.77.0.1", "lan_ipv4": "10.77.0.1", "lan_ipv6": "fd77::1", "wan": "198.51.100.1", "wan_ipv4": "198.51.100.1"},
    "Meta": {"consul-network-segment": "", "consul-version": "1.21.0"}, "Locality": {"Region": "us-west-1", "Zone": "us-west-1a"}, **_MARKS,
}  # fmt: skip
_PROXY = {"Mode": "", "MeshGateway": {}, "Expose": {}, "TransparentProxy": {}, "MutualTLSMode": ""}
_WEB = {
    "ID": "web", "Service": "web", "Tags": ["primary"], "Address": "10.77.0.1", "Meta": {"version": "4.0"}, "Port": 8000, "SocketPath": "",
    "TaggedAddresses": {
        "lan": {"Address": "10.77.0.9", "Port": 8000}, "wan": {"Address": "198.51.100.1", "Port": 80},
        "virtual": {"Address": "203.0.113.50", "Port": 80}, "consul-virtual": {"Address": "240.0.0.1", "Port": 8000},
    },
    "Weights": {"Passing": 10, "Warning": 1}, "EnableTagOverride": False, "Proxy": _PROXY, "Connect": {}, "PeerName": "", "Namespace": "default",
    "Partition": "default", "Locality": {"Region": "us-west-1", "Zone": "us-west-1a"}, **_MARKS,
}  # fmt: skip
_CHECK = {
    "Node": "host1", "CheckID": "service:web", "Name": "Service 'web' check", "Status": "passing", "Notes": "", "Output": "", "ServiceID": "web",
    "ServiceName": "web", "ServiceTags": ["primary"], "Type": "http", "Interval": "10s", "Timeout": "5s", "ExposedPort": 0, "Definition": {},
    "Namespace": "default", "Partition": "default", "PeerName": "", **_MARKS,
}  # fmt: skip
_SIDECAR = {
    **_WEB, "ID": "web-sidecar-proxy", "Service": "web-sidecar-proxy", "Kind": "connect-proxy", "Port": 21000,
    "Proxy": {"DestinationServiceName": "web", "DestinationServiceID": "web", "LocalServiceAddress": "127.0.0.1", "LocalServicePort": 8000, **_PROXY},
}  # fmt: skip
_SCOPE = {"Partition": "default", "Namespace": "default"}
_GET = {"PathPrefix": "/v2", "Methods": ["GET"], "Header": [{"Name": "x-tier", "Contains": "gold", "IgnoreCase": True}]}
_NEED = {"Providers": [{"Name": "okta", "VerifyClaims": [{"Path": ["perms", "role"], "Value": "admin"}]}]}
_ALLOW = {"Action": "allow", "Precedence": 9, "Type": "consul"}

NODES: list[dict[str, Any]] = [_NODE]
SERVICES: dict[str, Any] = {"consul": [], "web": ["primary"], "web-sidecar-proxy": []}
HEALTH: list[dict[str, Any]] = [{"Node": _NODE, "Service": _WEB, "Checks": [_CHECK]}, {"Node": _NODE, "Service": _SIDECAR, "Checks": []}]
INTENTIONS: list[dict[str, Any]] = [
    {
        "Kind": "service-intentions", "Name": "web", **_SCOPE, "Meta": {"owner": "ops"}, "Hash": 4711, **_MARKS,
        "Sources": [
            {"Name": "shop", **_SCOPE, **_ALLOW, "Description": "", "LegacyID": "e9ebc19f", "LegacyMeta": {},
             "LegacyCreateTime": "2018-05-21T16:41:27.977155457Z", "LegacyUpdateTime": "2018-05-21T16:41:27.977157724Z"},
            {"Name": "cart", **_SCOPE, "Action": "", "Precedence": 9, "Type": "consul", "Permissions": [{"Action": "allow", "HTTP": _GET, "JWT": _NEED}]},
            {"Name": "till", "Peer": "west", "Namespace": "default", **_ALLOW},
            {"Name": "bank", "SamenessGroup": "all", **_ALLOW},
            {"Name": "*", **_SCOPE, "Action": "deny", "Precedence": 8, "Type": "consul"},
        ],
    },
    {"Kind": "service-intentions", "Name": "api", **_SCOPE, "JWT": _NEED, "Sources": [{"Name": "shop", **_SCOPE, **_ALLOW}], **_MARKS},
]  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {
        "ID": "", "SourceNS": "default", "SourceName": "shop", "SourcePartition": "default", "DestinationNS": "default", "DestinationName": "web",
        "DestinationPartition": "default", "SourceType": "consul", "Action": "allow", "Precedence": 9, **_MARKS,
    },
    {
        "SourceNS": "default", "SourceName": "cart", "DestinationNS": "default", "DestinationName": "web", "SourceType": "consul",
        "Permissions": [{"Action": "allow", "HTTP": _GET}], "Precedence": 9, **_MARKS,
    },
    {"SourceNS": "default", "SourceName": "till", "SourcePeer": "west", "DestinationNS": "default", "DestinationName": "web", "Action": "allow", "Precedence": 9},
]  # fmt: skip
"""The same at `/v1/connect/intentions`, which it serves beside its entries."""
SERVICE_DEFAULTS: list[dict[str, Any]] = [
    {
        "Kind": "service-defaults", "Name": "web", **_SCOPE, "Protocol": "http", "Mode": "transparent", "MutualTLSMode": "strict",
        "TransparentProxy": {"OutboundListenerPort": 15001, "DialedDirectly": True}, "MeshGateway": {"Mode": "local"}, "ExternalSNI": "",
        "Expose": {"Checks": False, "Paths": []}, "MaxInboundConnections": 0, "LocalConnectTimeoutMs": 5000, "LocalRequestTimeoutMs": 15000,
        "UpstreamConfig": {"Defaults": {"Limits": {"MaxConnections": 100}, "PassiveHealthCheck": {"Interval": 10_000_000_000}, "MeshGateway": {}}},
        "RateLimits": {"InstanceLevel": {"RequestsPerSecond": 10, "RequestsMaxBurst": 20}}, "EnvoyExtensions": [], **_MARKS,
    },
]  # fmt: skip
PROXY_DEFAULTS: list[dict[str, Any]] = [
    {
        "Kind": "proxy-defaults", "Name": "global", **_SCOPE, "Config": {"protocol": "http2", "local_connect_timeout_ms": 1000}, "TransparentProxy": {},
        "MutualTLSMode": "", "MeshGateway": {}, "Expose": {}, "AccessLogs": {"Enabled": True, "Type": "stdout"}, "EnvoyExtensions": [],
        "FailoverPolicy": {"Mode": "sequential"}, "PrioritizeByLocality": {"Mode": "failover"}, **_MARKS,
    },
]  # fmt: skip
SELF: dict[str, Any] = {
    "Config": {
        "Datacenter": "dc1", "PrimaryDatacenter": "dc1", "NodeName": "host1", "NodeID": "9d754d17-d864-b1d3-e758-f3fe25a9874f", "Revision": "deadbeef",
        "Server": True, "Version": "1.21.0", "BuildDate": "2025-05-06T15:04:05Z",
    },
    "DebugConfig": {}, "Coord": {}, "Member": {}, "Meta": {}, "Stats": {}, "xDS": {"SupportedProxies": {"envoy": ["1.34.1"]}, "Ports": {"Plaintext": 8502, "TLS": 8503}},
}  # fmt: skip
ROOT_FIELDS: dict[str, Any] = {
    "Name": "Consul CA Primary Cert", "SerialNumber": 7, "SigningKeyID": "2d:09:5d:84", "ExternalTrustDomain": "a1499528", "NotBefore": "2026-11-27T00:00:00Z",
    "NotAfter": "2036-11-27T00:00:00Z", "IntermediateCerts": None, "PrivateKeyType": "ec", "PrivateKeyBits": 256, **_MARKS,
}  # fmt: skip
"""What stands beside ID, RootCert and Active in a root."""
