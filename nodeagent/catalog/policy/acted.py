"""What of entries agents act on, and what is only kept."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from nodeagent.catalog.policy.faults import below
from nodeagent.model.policy.values import Part, body_of

_WHOLE: Collection[str] = ("service-router", "service-splitter", "service-resolver", "retry-budget")
_META = ("Kind", "Name", "Namespace", "Partition", "Meta")
_LIMITS = ("Limits.MaxConnections", "Limits.MaxPendingRequests", "Limits.MaxConcurrentRequests", "PassiveHealthCheck", "ConnectTimeoutMs")
_PATHS = ("InsecureDisablePathNormalization", "MergeSlashes", "PathWithEscapedSlashesAction")
_FIELDS: Mapping[str, Collection[str]] = {
    "service-intentions": ("Sources",),
    "service-defaults": (
        "Protocol", *(f"UpstreamConfig.Defaults.{field}" for field in _LIMITS), *(f"UpstreamConfig.Overrides.{field}" for field in _LIMITS),
        "UpstreamConfig.Overrides.Name",
    ),
    "proxy-defaults": ("Config.protocol",),
    "mesh": tuple(f"HTTP.Incoming.RequestNormalization.{field}" for field in _PATHS),
}  # fmt: skip
"""What is acted on of kinds that are not acted on as a whole; of all that are not here, nothing is."""

_JWT = "a JWT cannot be checked yet: sources and permissions that ask for one deny"


def unacted_on(spec: Part) -> str:
    """What of an entry is kept and not yet acted on, in words; else nothing."""
    body = body_of(spec)
    kind = body["Kind"]
    if kind in _WHOLE:
        return ""
    if kind == "service-intentions":
        sources = body.get("Sources", ())
        return _JWT if "JWT" in body or any("JWT" in each for source in sources for each in source.get("Permissions", ())) else ""
    if kind not in _FIELDS:
        return "kept, not yet acted on"
    unacted = dict.fromkeys(path for path in _paths({key: each for key, each in body.items() if key not in _META}, _FIELDS[kind]))
    return f"kept, not yet acted on ({', '.join(unacted)})" if unacted else ""


def _paths(value: Any, acted: Collection[str], path: str = "") -> Iterable[str]:
    """Of what is said, the shortest paths below which nothing is acted on. What is empty says nothing: Consul shows tables that nobody filled."""
    if path in acted or not value:
        return
    if path and not any(each.startswith(f"{path}.") for each in acted):
        yield path
        return
    for each in value if isinstance(value, list) else (value,):
        for key, inner in each.items():
            yield from _paths(inner, acted, below(path, key))
