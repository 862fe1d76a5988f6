"""Keys that a Consul before 1.9 does not know: it refuses an entry that has one."""

from collections.abc import Iterator, Mapping
from typing import Any

UNKNOWN: Mapping[str, frozenset[str]] = {
    "service-defaults": frozenset({
        "Mode", "UpstreamConfig", "LocalRequestTimeoutMs", "MutualTLSMode", "BalanceInboundConnections", "LocalConnectTimeoutMs", "TransparentProxy",
        "MaxInboundConnections", "EnvoyExtensions", "RateLimits", "Destination",
    }),
    "proxy-defaults": frozenset({"EnvoyExtensions", "PrioritizeByLocality", "FailoverPolicy", "MutualTLSMode", "TransparentProxy", "Mode", "AccessLogs"}),
    "service-router": frozenset({
        "Routes.Match.HTTP.Header.Contains", "Routes.Match.HTTP.Header.IgnoreCase", "Routes.Match.HTTP.CaseInsensitive", "Routes.Destination.IdleTimeout",
        "Routes.Destination.ResponseHeaders", "Routes.Destination.RetryOn", "Routes.Destination.RequestHeaders",
    }),
    "service-splitter": frozenset({"Splits.ResponseHeaders", "Splits.RequestHeaders"}),
    "service-resolver": frozenset({
        "Redirect.Peer", "Redirect.SamenessGroup", "Failover.*.SamenessGroup", "Failover.*.Policy", "Failover.*.Targets", "RequestTimeout",
        "PrioritizeByLocality", "LoadBalancer",
    }),
}  # fmt: skip
"""By kind, without the places in lists; of tables by names that are chosen, `*`. As Consul 1.8.7 tells them."""
_NAMED = ("Failover", "Subsets")


def unknown_keys(kind: str, said: Mapping[str, Any]) -> list[str]:
    """Paths of what such a Consul refuses in an entry."""
    unknown = UNKNOWN.get(kind, frozenset())
    return [shown for shown, path in _paths(said) if path in unknown]


def _paths(value: Any, shown: str = "", path: str = "") -> Iterator[tuple[str, str]]:
    """Every key, as it is shown and as it is looked up."""
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _paths(each, f"{shown}[{number}]", path)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            at, below = (f"{shown}[{key}]", f"{path}.*") if path in _NAMED else (f"{shown}.{key}".lstrip("."), f"{path}.{key}".lstrip("."))
            yield at, below
            yield from _paths(each, at, below)
