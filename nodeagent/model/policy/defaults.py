"""service-defaults, proxy-defaults and mesh: how services speak, and what holds for all of them."""

from typing import Annotated, Literal

import msgspec

from nodeagent.model.policy.resolving import FailoverPolicy, Locality
from nodeagent.model.policy.values import Count, Duration, Free, Meta, Name, Part, Port, Protocol, Scope, Text

Mode = Literal["", "direct", "transparent"]
MutualTls = Literal["", "strict", "permissive"]
TlsVersion = Literal["", "TLS_AUTO", "TLSv1_0", "TLSv1_1", "TLSv1_2", "TLSv1_3"]
WholePercent = Annotated[int, msgspec.Meta(ge=0, le=100)]


class TransparentProxy(Part, frozen=True):
    """How traffic is captured by a proxy of Consul's."""

    outbound_listener_port: Port = 0
    dialed_directly: bool = False


class MeshGateway(Part, frozen=True):
    """Whether calls go by a gateway."""

    mode: Literal["", "none", "local", "remote"] = ""


class ExposedPath(Part, frozen=True):
    """A path that is served without the mesh."""

    path: Text = ""
    listener_port: Port = 0
    local_path_port: Port = 0
    protocol: Literal["", "http", "http2"] = ""


class Expose(Part, frozen=True):
    """What is served without the mesh."""

    checks: bool = False
    paths: tuple[ExposedPath, ...] = ()


class Destination(Part, frozen=True):
    """A service outside of the mesh."""

    addresses: tuple[Text, ...] = ()
    port: Port = 0


class CallLimits(Part, frozen=True):
    """What a caller may have open at once; None: no limit of its own."""

    max_connections: Count | None = None
    max_pending_requests: Count | None = None
    max_concurrent_requests: Count | None = None


class PassiveHealthCheck(Part, frozen=True):
    """When an instance that fails is left alone for a while."""

    interval: Duration = Duration(0)
    max_failures: Count = 0
    enforcing_consecutive_5xx: WholePercent | None = msgspec.field(name="EnforcingConsecutive5xx", default=None)
    max_ejection_percent: WholePercent | None = None
    base_ejection_time: Duration | None = None


class Upstream(Part, frozen=True):
    """How this service calls others; in an override with their name."""

    name: Text = ""
    namespace: Scope = ""
    partition: Scope = ""
    peer: Text = ""
    protocol: Protocol = ""
    connect_timeout_ms: Count = 0
    limits: CallLimits | None = None
    passive_health_check: PassiveHealthCheck | None = None
    mesh_gateway: MeshGateway | None = None
    balance_outbound_connections: Literal["", "exact_balance"] = ""
    envoy_listener_json: str = msgspec.field(name="EnvoyListenerJSON", default="")
    envoy_cluster_json: str = msgspec.field(name="EnvoyClusterJSON", default="")


class UpstreamConfig(Part, frozen=True):
    """The same for all, and for each that differs."""

    defaults: Upstream | None = None
    overrides: tuple[Upstream, ...] = ()


class RouteRate(Part, frozen=True):
    """The rate for some paths, instead of the instance's."""

    path_exact: Text = ""
    path_prefix: Text = ""
    path_regex: Text = ""
    requests_per_second: Count = 0
    requests_max_burst: Count = 0


class InstanceRate(Part, frozen=True):
    """What one instance takes."""

    requests_per_second: Count = 0
    requests_max_burst: Count = 0
    routes: tuple[RouteRate, ...] = ()


class RateLimits(Part, frozen=True):
    """How many requests are taken."""

    instance_level: InstanceRate | None = None


class ServiceDefaults(Part, frozen=True):
    """How a service speaks and what it takes."""

    kind: Literal["service-defaults"]
    name: Name
    namespace: Scope = ""
    partition: Scope = ""
    meta: Meta = {}
    protocol: Protocol = ""
    """Unsaid: proxy-defaults', else tcp."""
    mode: Mode = ""
    transparent_proxy: TransparentProxy | None = None
    mutual_tls_mode: MutualTls = msgspec.field(name="MutualTLSMode", default="")
    mesh_gateway: MeshGateway | None = None
    expose: Expose | None = None
    external_sni: Text = msgspec.field(name="ExternalSNI", default="")
    destination: Destination | None = None
    upstream_config: UpstreamConfig | None = None
    max_inbound_connections: Count = 0
    local_connect_timeout_ms: Count = 0
    local_request_timeout_ms: Count = 0
    balance_inbound_connections: Literal["", "exact_balance"] = ""
    rate_limits: RateLimits | None = None
    envoy_extensions: tuple[Free, ...] = ()


class AccessLogs(Part, frozen=True):
    """What Consul's proxies log."""

    enabled: bool = False
    disable_listener_logs: bool = False
    type: Literal["", "stdout", "stderr", "file"] = ""
    path: Text = ""
    json_format: Text = msgspec.field(name="JSONFormat", default="")
    text_format: Text = ""


class ProxyDefaults(Part, frozen=True):
    """What holds for every service that does not say otherwise."""

    kind: Literal["proxy-defaults"]
    name: Literal["global"] = "global"
    namespace: Scope = ""
    partition: Scope = ""
    meta: Meta = {}
    config: Free = {}
    mode: Mode = ""
    transparent_proxy: TransparentProxy | None = None
    mutual_tls_mode: MutualTls = msgspec.field(name="MutualTLSMode", default="")
    mesh_gateway: MeshGateway | None = None
    expose: Expose | None = None
    access_logs: AccessLogs | None = None
    envoy_extensions: tuple[Free, ...] = ()
    failover_policy: FailoverPolicy | None = None
    prioritize_by_locality: Locality | None = None

    @property
    def protocol(self) -> str:
        """What services speak that do not say it."""
        return str(self.config.get("protocol") or "")


class MeshTransparency(Part, frozen=True):
    """Where captured traffic may go."""

    mesh_destinations_only: bool = False


class TlsRange(Part, frozen=True):
    """Versions of TLS, and what is spoken in them."""

    tls_min_version: TlsVersion = msgspec.field(name="TLSMinVersion", default="")
    tls_max_version: TlsVersion = msgspec.field(name="TLSMaxVersion", default="")
    cipher_suites: tuple[Text, ...] = ()


class MeshTls(Part, frozen=True):
    """TLS of what comes and what goes."""

    incoming: TlsRange | None = None
    outgoing: TlsRange | None = None


class Normalization(Part, frozen=True):
    """What is done to a path before a rule reads it."""

    insecure_disable_path_normalization: bool = False
    merge_slashes: bool = False
    path_with_escaped_slashes_action: Literal[
        "", "IMPLEMENTATION_SPECIFIC_DEFAULT", "KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT",
        "UNESCAPE_AND_FORWARD",
    ] = ""  # fmt: skip
    headers_with_underscores_action: Literal["", "ALLOW", "REJECT_REQUEST", "DROP_HEADER"] = ""


class MeshIncoming(Part, frozen=True):
    """Requests that come."""

    request_normalization: Normalization | None = None


class MeshHttp(Part, frozen=True):
    """HTTP in the whole mesh."""

    sanitize_x_forwarded_client_cert: bool = False
    incoming: MeshIncoming | None = None


class MeshPeering(Part, frozen=True):
    """How other clusters are reached."""

    peer_through_mesh_gateways: bool = False


class MeshEntry(Part, frozen=True):
    """What holds for the whole mesh."""

    kind: Literal["mesh"]
    name: Literal["mesh"] = "mesh"
    namespace: Scope = ""
    partition: Scope = ""
    meta: Meta = {}
    transparent_proxy: MeshTransparency | None = None
    allow_enabling_permissive_mutual_tls: bool = msgspec.field(name="AllowEnablingPermissiveMutualTLS", default=False)
    tls: MeshTls | None = msgspec.field(name="TLS", default=None)
    http: MeshHttp | None = msgspec.field(name="HTTP", default=None)
    peering: MeshPeering | None = None
    validate_clusters: bool = False
