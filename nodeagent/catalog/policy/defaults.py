"""service-defaults, proxy-defaults and mesh: holes that lead somewhere, limits that bound, versions in order."""

from collections.abc import Iterator
from typing import get_args

from nodeagent.catalog.policy.faults import Fault, below
from nodeagent.catalog.policy.requests import path_faults
from nodeagent.model.names import is_service_name, name_complaint
from nodeagent.model.policy.defaults import (
    AccessLogs,
    Destination,
    Expose,
    InstanceRate,
    MeshEntry,
    ProxyDefaults,
    RouteRate,
    ServiceDefaults,
    TlsRange,
    TlsVersion,
    UpstreamConfig,
)
from nodeagent.model.policy.values import Protocol

_PROTOCOLS = [name for name in get_args(Protocol) if name]
_VERSIONS = get_args(TlsVersion)[2:]


def service_faults(entry: ServiceDefaults) -> Iterator[Fault]:
    """What is wrong with a service-defaults entry, beyond its shape."""
    yield from _expose_faults(entry.expose)
    if entry.destination is not None:
        yield from _destination_faults(entry.destination)
    if entry.upstream_config is not None:
        yield from _upstream_faults(entry.upstream_config)
    if entry.rate_limits is not None and entry.rate_limits.instance_level is not None:
        yield from _rate_faults(entry.rate_limits.instance_level, "RateLimits.InstanceLevel")


def proxy_faults(entry: ProxyDefaults) -> Iterator[Fault]:
    """What is wrong with the proxy-defaults entry, beyond its shape."""
    protocol = entry.config.get("protocol")
    if protocol is not None and protocol not in ("", *_PROTOCOLS):
        yield Fault("Config.protocol", f"{str(protocol)[:80]!r} is no protocol; it is one of {', '.join(_PROTOCOLS)}")
    yield from _expose_faults(entry.expose)
    if entry.access_logs is not None:
        yield from _log_faults(entry.access_logs)


def mesh_faults(entry: MeshEntry) -> Iterator[Fault]:
    """What is wrong with the mesh entry, beyond its shape."""
    sides = {"Incoming": entry.tls.incoming, "Outgoing": entry.tls.outgoing} if entry.tls else {}
    for side, versions in sides.items():
        if versions is not None:
            yield from _version_faults(versions, below("TLS", side))


def _version_faults(versions: TlsRange, path: str) -> Iterator[Fault]:
    low, high = versions.tls_min_version, versions.tls_max_version
    if low in _VERSIONS and high in _VERSIONS and _VERSIONS.index(low) > _VERSIONS.index(high):
        yield Fault(path, f"TLSMinVersion {low} is above TLSMaxVersion {high}")
    if versions.cipher_suites and low == "TLSv1_3":
        yield Fault(below(path, "CipherSuites"), "TLS 1.3 has its own; they are not chosen")


def _expose_faults(expose: Expose | None) -> Iterator[Fault]:
    seen: set[int] = set()
    for number, each in enumerate(expose.paths if expose else ()):
        path = below("Expose.Paths", number)
        if not each.path.startswith("/"):
            yield Fault(below(path, "Path"), f"{each.path[:80]!r} does not begin with /")
        if not each.local_path_port:
            yield Fault(below(path, "LocalPathPort"), "is missing: where the application serves the path")
        if each.listener_port and each.listener_port in seen:
            yield Fault(below(path, "ListenerPort"), f"{each.listener_port} stands twice")
        seen.add(each.listener_port)


def _destination_faults(destination: Destination) -> Iterator[Fault]:
    if not destination.addresses or not all(destination.addresses):
        yield Fault("Destination.Addresses", "give at least one, and none that is empty")
    if not destination.port:
        yield Fault("Destination.Port", "is missing")


def _upstream_faults(config: UpstreamConfig) -> Iterator[Fault]:
    if config.defaults is not None and config.defaults.name:
        yield Fault("UpstreamConfig.Defaults.Name", "is for Overrides: the defaults are for every service")
    seen: set[tuple[str, str]] = set()
    for number, upstream in enumerate(config.overrides):
        path, who = below("UpstreamConfig.Overrides", number), (upstream.name, upstream.peer)
        if not is_service_name(upstream.name):
            yield Fault(below(path, "Name"), name_complaint(upstream.name) if upstream.name else "is missing: which service differs")
        elif who in seen:
            yield Fault(path, f"{upstream.name} stands twice")
        seen.add(who)


def _rate_faults(rate: InstanceRate, path: str) -> Iterator[Fault]:
    rates: list[tuple[InstanceRate | RouteRate, str]] = [(rate, path)]
    for route, at in (*rates, *((each, below(below(path, "Routes"), number)) for number, each in enumerate(rate.routes))):
        if route.requests_max_burst and route.requests_max_burst < route.requests_per_second:
            yield Fault(at, f"RequestsMaxBurst {route.requests_max_burst} is less than RequestsPerSecond {route.requests_per_second}")
    for number, each in enumerate(rate.routes):
        at = below(below(path, "Routes"), number)
        if not (each.path_exact or each.path_prefix or each.path_regex):
            yield Fault(at, "needs one of PathExact, PathPrefix and PathRegex")
        yield from path_faults(each, at)


def _log_faults(logs: AccessLogs) -> Iterator[Fault]:
    if logs.json_format and logs.text_format:
        yield Fault("AccessLogs", "JSONFormat and TextFormat are both set")
    if bool(logs.path) != (logs.type == "file"):
        yield Fault("AccessLogs.Path", "goes with the Type file, and with no other")
