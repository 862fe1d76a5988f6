"""One entry of each kind in which every key is said, and short ways to what is wrong with one."""

from typing import Any

import msgspec

from nodeagent.catalog.policy.entries import Entry, read_entry
from nodeagent.errors import PolicyError
from nodeagent.model.policy.values import Part

HEADERS = {"Add": {"a": "1"}, "Set": {"b": "2"}, "Remove": ["c"]}
JWT = {"Providers": [{"Name": "okta", "VerifyClaims": [{"Path": ["perms", "role"], "Value": "admin"}]}]}
HEADER = {"Name": "x-a", "Exact": "1", "IgnoreCase": True, "Invert": True}
MATCH = {
    "HTTP": {
        "PathPrefix": "/a", "CaseInsensitive": True, "Methods": ["GET"], "Header": [HEADER],
        "QueryParam": [{"Name": "q", "Present": True}],
    }
}  # fmt: skip
SCOPE = {"Namespace": "default", "Partition": "default"}
LIMITS = {"MaxConnections": 0, "MaxPendingRequests": 5, "MaxConcurrentRequests": 6}
CHECK = {
    "Interval": "10s", "MaxFailures": 3, "EnforcingConsecutive5xx": 0, "MaxEjectionPercent": 50, "BaseEjectionTime": "30s",
}  # fmt: skip
UPSTREAM = {
    "Protocol": "http", "ConnectTimeoutMs": 10, "Limits": LIMITS, "PassiveHealthCheck": CHECK, "MeshGateway": {"Mode": "local"},
    "BalanceOutboundConnections": "exact_balance", "EnvoyListenerJSON": "{}", "EnvoyClusterJSON": "{}",
}  # fmt: skip
EXPOSE = {"Checks": True, "Paths": [{"Path": "/metrics", "ListenerPort": 1, "LocalPathPort": 2, "Protocol": "http2"}]}
PROXY = {"OutboundListenerPort": 15001, "DialedDirectly": True}

FULL: dict[str, dict[str, Any]] = {
    "service-intentions": {
        "Kind": "service-intentions", "Name": "web", **SCOPE, "Meta": {"a": "b"}, "JWT": JWT,
        "Sources": [
            {
                "Name": "shop", "Type": "consul", "Precedence": 9, "Description": "d", **SCOPE, "LegacyID": "1",
                "LegacyMeta": {"a": 1}, "LegacyCreateTime": "t", "LegacyUpdateTime": "t",
                "Permissions": [{"Action": "allow", "HTTP": {"PathExact": "/a", "Methods": ["GET"], "Header": [HEADER]}, "JWT": JWT}],
            },
            {"Name": "cron", "Action": "deny", "Peer": "other"},
            {"Name": "cron", "Action": "deny", "SamenessGroup": "all"},
        ],
    },
    "service-router": {
        "Kind": "service-router", "Name": "web", **SCOPE, "Meta": {"a": "b"},
        "Routes": [
            {
                "Match": MATCH,
                "Destination": {
                    "Service": "api", "ServiceSubset": "v2", **SCOPE, "PrefixRewrite": "/", "RequestTimeout": "1m30s",
                    "IdleTimeout": "250ms", "NumRetries": 2, "RetryOnConnectFailure": True, "RetryOn": ["5xx", "reset"],
                    "RetryOnStatusCodes": [503], "RequestHeaders": HEADERS, "ResponseHeaders": HEADERS,
                },
            }
        ],
    },
    "service-splitter": {
        "Kind": "service-splitter", "Name": "web", **SCOPE, "Meta": {"a": "b"},
        "Splits": [
            {"Weight": 99.5, "Service": "web", "ServiceSubset": "v1", **SCOPE, "RequestHeaders": HEADERS, "ResponseHeaders": HEADERS},
            {"Weight": 0.5, "ServiceSubset": "v2"},
        ],
    },
    "service-resolver": {
        "Kind": "service-resolver", "Name": "web", **SCOPE, "Meta": {"a": "b"}, "DefaultSubset": "v1",
        "Subsets": {"v1": {"Filter": "Service.Meta.version == v1", "OnlyPassing": True}, "v2": {}},
        "Redirect": {"Service": "api", "ServiceSubset": "v1", **SCOPE, "Datacenter": "dc2"},
        "Failover": {
            "v1": {"Service": "api", "ServiceSubset": "v2", **SCOPE, "Datacenters": ["dc2"], "Policy": {"Mode": "sequential", "Regions": ["r"]}},
            "v2": {"Targets": [{"Service": "api", "ServiceSubset": "v2", **SCOPE, "Datacenter": "dc2"}, {"Service": "api", "Peer": "p"}]},
            "*": {"SamenessGroup": "all"},
        },
        "ConnectTimeout": "5s", "RequestTimeout": "15s",
        "LoadBalancer": {
            "Policy": "ring_hash", "RingHashConfig": {"MinimumRingSize": 1024, "MaximumRingSize": 8192},
            "HashPolicies": [
                {"Field": "cookie", "FieldValue": "c", "CookieConfig": {"TTL": "1h0m0s", "Path": "/"}, "Terminal": True},
                {"SourceIP": True},
                {"Field": "cookie", "FieldValue": "d", "CookieConfig": {"Session": True}},
            ],
        },
        "PrioritizeByLocality": {"Mode": "failover"},
    },
    "service-defaults": {
        "Kind": "service-defaults", "Name": "web", **SCOPE, "Meta": {"a": "b"}, "Protocol": "http", "Mode": "transparent",
        "TransparentProxy": PROXY, "MutualTLSMode": "strict", "MeshGateway": {"Mode": "none"}, "Expose": EXPOSE,
        "ExternalSNI": "x", "Destination": {"Addresses": ["a.example"], "Port": 443},
        "UpstreamConfig": {"Defaults": UPSTREAM, "Overrides": [{"Name": "db", **SCOPE, "Peer": "p", **UPSTREAM}]},
        "MaxInboundConnections": 1, "LocalConnectTimeoutMs": 2, "LocalRequestTimeoutMs": 3,
        "BalanceInboundConnections": "exact_balance",
        "RateLimits": {
            "InstanceLevel": {
                "RequestsPerSecond": 5, "RequestsMaxBurst": 10,
                "Routes": [
                    {"PathExact": "/a", "RequestsPerSecond": 1, "RequestsMaxBurst": 1},
                    {"PathPrefix": "/b"}, {"PathRegex": "/c.*"},
                ],
            }
        },
        "EnvoyExtensions": [{"Name": "builtin/lua", "Arguments": {"a": [1, None, 2.5]}}],
    },
    "proxy-defaults": {
        "Kind": "proxy-defaults", "Name": "global", **SCOPE, "Meta": {"a": "b"}, "Config": {"protocol": "http", "x": {"y": [None]}},
        "Mode": "direct", "TransparentProxy": PROXY, "MutualTLSMode": "strict", "MeshGateway": {"Mode": "remote"}, "Expose": EXPOSE,
        "AccessLogs": {"Enabled": True, "DisableListenerLogs": True, "Type": "file", "Path": "/x", "JSONFormat": "{}"},
        "EnvoyExtensions": [{"Name": "builtin/lua"}], "FailoverPolicy": {"Mode": "order-by-locality"},
        "PrioritizeByLocality": {"Mode": "none"},
    },
    "mesh": {
        "Kind": "mesh", "Name": "mesh", **SCOPE, "Meta": {"a": "b"}, "TransparentProxy": {"MeshDestinationsOnly": True},
        "AllowEnablingPermissiveMutualTLS": True,
        "TLS": {
            "Incoming": {"TLSMinVersion": "TLSv1_2", "TLSMaxVersion": "TLSv1_3", "CipherSuites": ["x"]},
            "Outgoing": {"TLSMinVersion": "TLS_AUTO"},
        },
        "HTTP": {
            "SanitizeXForwardedClientCert": True,
            "Incoming": {
                "RequestNormalization": {
                    "InsecureDisablePathNormalization": True, "MergeSlashes": True,
                    "PathWithEscapedSlashesAction": "REJECT_REQUEST", "HeadersWithUnderscoresAction": "DROP_HEADER",
                }
            },
        },
        "Peering": {"PeerThroughMeshGateways": True}, "ValidateClusters": True,
    },
    "jwt-provider": {
        "Kind": "jwt-provider", "Name": "okta", **SCOPE, "Meta": {"a": "b"},
        "JSONWebKeySet": {
            "Remote": {
                "URI": "https://keys.example/jwks", "RequestTimeoutMs": 500, "CacheDuration": "5m0s", "FetchAsynchronously": True,
                "UseSNI": True, "JWKSCluster": {"DiscoveryType": "STATIC"},
                "RetryPolicy": {"NumRetries": 1, "RetryPolicyBackOff": {"BaseInterval": "1s", "MaxInterval": "10s"}},
            }
        },
        "Issuer": "https://okta.example", "Audiences": ["a"],
        "Locations": [
            {"Header": {"Name": "x", "ValuePrefix": "Bearer ", "Forward": True}}, {"QueryParam": {"Name": "t"}}, {"Cookie": {"Name": "t"}},
        ],
        "Forwarding": {"HeaderName": "x-payload", "PadForwardPayloadHeader": True}, "ClockSkewSeconds": 30, "CacheConfig": {"Size": 5},
    },
    "mirror": {
        "Kind": "mirror", "Name": "web", "Meta": {"a": "b"},
        "Copies": [{"Service": "shadow", "ServiceSubset": "v1", "Percent": 0.0, "Match": MATCH}],
    },
    "fault": {
        "Kind": "fault", "Name": "web", "Meta": {"a": "b"},
        "Injections": [
            {
                "Sources": ["shop", "*"], "Match": MATCH, "Percent": 10.0, "Abort": {"HTTPStatus": 503}, "Delay": "2s",
                "ResponseBytesPerSecond": 1000,
            },
            {"Abort": {"GRPCStatus": 0}},
        ],
    },
    "retry-budget": {
        "Kind": "retry-budget", "Name": "*", "Meta": {"a": "b"}, "Ratio": 0.0, "MinPerSecond": 0.5, "TTL": "10s", "MaxBodyBytes": 0,
    },
    "rate-limit": {
        "Kind": "rate-limit", "Name": "web", "Meta": {"a": "b"}, "Total": {"RequestsPerSecond": 100.0, "Burst": 200},
        "PerSource": {"RequestsPerSecond": 10.0}, "Overrides": [{"Sources": ["shop"], "RequestsPerSecond": 50.0, "Burst": 60}],
        "ConnectionsPerSecond": 20.0,
    },
}  # fmt: skip
"""Where keys exclude one another, the entry has both in different places, or FURTHER says the other."""

FURTHER: tuple[dict[str, Any], ...] = (
    {"Kind": "jwt-provider", "Name": "own", "JSONWebKeySet": {"Local": {"JWKS": "eyJrZXlzIjogW119"}}},
    {"Kind": "jwt-provider", "Name": "own", "JSONWebKeySet": {"Local": {"Filename": "/etc/keys.json"}}},
    {"Kind": "proxy-defaults", "Name": "global", "AccessLogs": {"TextFormat": "%x%", "Type": "stderr"}},
    {"Kind": "service-resolver", "Name": "web", "Redirect": {"Service": "api", "Peer": "p"}},
    {"Kind": "service-resolver", "Name": "web", "Redirect": {"Service": "api", "SamenessGroup": "s"}},
    {
        "Kind": "service-resolver", "Name": "web",
        "LoadBalancer": {"Policy": "least_request", "LeastRequestConfig": {"ChoiceCount": 3}},
    },
    {
        "Kind": "service-intentions", "Name": "*",
        "Sources": [{"Name": "*", "Action": "deny"}],
    },
    {
        "Kind": "service-router", "Name": "web",
        "Routes": [
            {"Match": {"HTTP": {"PathExact": "/a", "Header": [{"Name": "h", "Present": True}, {"Name": "h", "Regex": "a+"}]}}},
            {"Match": {"HTTP": {"PathRegex": "/a+", "Header": [{"Name": "h", "Prefix": "a"}, {"Name": "h", "Suffix": "a"}]}}},
            {"Match": {"HTTP": {"Header": [{"Name": "h", "Contains": "a"}], "QueryParam": [{"Name": "q", "Exact": "1"}, {"Name": "q", "Regex": "1"}]}}},
        ],
    },
)  # fmt: skip


def good(document: object) -> Entry:
    """The entry, which must be sound."""
    return read_entry(document)


def faults(document: object) -> tuple[str, ...]:
    """All that is said to be wrong."""
    try:
        read_entry(document)
    except PolicyError as error:
        return error.faults
    return ()


def bad(kind: str, **said: object) -> str:
    """The same of an entry `web` of this kind, in one text."""
    return "\n".join(faults({"Kind": kind, "Name": "web"} | said))


def unsaid(part: Part, path: str = "") -> set[str]:
    """The keys that are nowhere said in the part: `Match.HTTP.Methods`."""
    found: set[str] = set()
    for field in msgspec.structs.fields(part):
        value, at = getattr(part, field.name), f"{path}.{field.encode_name}".lstrip(".")
        inner = list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else [value]
        parts = [each for each in inner if isinstance(each, Part)]
        if parts:
            found |= set.intersection(*(unsaid(each, at) for each in parts))
        elif value is None or (field.default is not None and not field.required and not value):
            found.add(at)
    return found
