"""Config entries: which kinds there are, what shape each has, and how it is kept."""

from typing import Annotated, Any, Literal

import msgspec

from nodeagent.embedded.body import shaped
from nodeagent.embedded.names import Name, NameOrAny
from nodeagent.embedded.refusal import BadRequest, Missing
from nodeagent.embedded.registration import Meta
from nodeagent.model.intention import ANY, Intention

MARKS = ("CreateIndex", "ModifyIndex", "Hash")
"""What a reader got and may send back with the entry; ours to say, so it is not stored."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Protocol = Literal["tcp", "http", "http2", "grpc"]
Action = Literal["allow", "deny"]
Table = dict[str, Any]
Pattern = Annotated[str, msgspec.Meta(max_length=2048)]
Wait = Annotated[str, msgspec.Meta(pattern=r"^(0|([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+)?\Z", max_length=64)]
"""A duration as Go writes it."""


class _Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Keys as Consul writes them."""


class _Header(_Shape, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    present: bool = False
    exact: Pattern = ""
    prefix: Pattern = ""
    suffix: Pattern = ""
    contains: Pattern = ""
    regex: Pattern = ""
    ignore_case: bool = False
    invert: bool = False


class _Http(_Shape, frozen=True):
    path_exact: Pattern = ""
    path_prefix: Pattern = ""
    path_regex: Pattern = ""
    methods: tuple[str, ...] = ()
    header: tuple[_Header, ...] = ()


class _Permission(_Shape, frozen=True):
    action: Action
    http: _Http | None = msgspec.field(name="HTTP", default=None)
    jwt: Table | None = msgspec.field(name="JWT", default=None)


class Source(_Shape, frozen=True):
    """One source of a service-intentions entry."""

    name: NameOrAny
    action: Action | None = None
    permissions: tuple[_Permission, ...] = ()
    description: Annotated[str, msgspec.Meta(max_length=512)] = ""
    type: Literal["", "consul"] = ""
    precedence: int = 0
    legacy_id: str = msgspec.field(name="LegacyID", default="")
    legacy_meta: Table = {}
    legacy_create_time: str = ""
    legacy_update_time: str = ""


class _Intentions(_Shape, frozen=True):
    kind: str
    name: NameOrAny
    sources: tuple[Table, ...]
    meta: Meta = {}
    jwt: Table | None = msgspec.field(name="JWT", default=None)


class _ServiceDefaults(_Shape, frozen=True):
    kind: str
    name: Name
    protocol: Protocol = "tcp"
    mode: Literal["", "direct", "transparent"] = ""
    transparent_proxy: Table = {}
    mutual_tls_mode: Literal["", "strict", "permissive"] = msgspec.field(name="MutualTLSMode", default="")
    mesh_gateway: Table = {}
    expose: Table = {}
    external_sni: str = msgspec.field(name="ExternalSNI", default="")
    destination: Table | None = None
    upstream_config: Table | None = None
    max_inbound_connections: Count = 0
    local_connect_timeout_ms: Count = 0
    local_request_timeout_ms: Count = 0
    balance_inbound_connections: Literal["", "exact_balance"] = ""
    rate_limits: Table | None = None
    envoy_extensions: tuple[Table, ...] = ()
    meta: Meta = {}


class _ProxyDefaults(_Shape, frozen=True):
    kind: str
    name: Literal["global"] = "global"
    config: Table = {}
    mode: Literal["", "direct", "transparent"] = ""
    transparent_proxy: Table = {}
    mutual_tls_mode: Literal["", "strict", "permissive"] = msgspec.field(name="MutualTLSMode", default="")
    mesh_gateway: Table = {}
    expose: Table = {}
    access_logs: Table = {}
    envoy_extensions: tuple[Table, ...] = ()
    failover_policy: Table | None = None
    prioritize_by_locality: Table | None = None
    meta: Meta = {}


class _Mesh(_Shape, frozen=True):
    kind: str
    name: Literal["mesh"] = "mesh"
    transparent_proxy: Table = {}
    allow_enabling_permissive_mutual_tls: bool = msgspec.field(name="AllowEnablingPermissiveMutualTLS", default=False)
    tls: Table | None = msgspec.field(name="TLS", default=None)
    http: Table | None = msgspec.field(name="HTTP", default=None)
    peering: Table | None = None
    validate_clusters: bool = False
    meta: Meta = {}


class _Router(_Shape, frozen=True):
    kind: str
    name: Name
    routes: tuple[Table, ...] = ()
    meta: Meta = {}


class _Splitter(_Shape, frozen=True):
    kind: str
    name: Name
    splits: Annotated[tuple[Table, ...], msgspec.Meta(min_length=1)]
    meta: Meta = {}


class _Resolver(_Shape, frozen=True):
    kind: str
    name: Name
    default_subset: str = ""
    subsets: dict[str, Table] = {}
    redirect: Table | None = None
    failover: dict[str, Table] = {}
    connect_timeout: Wait = ""
    request_timeout: Wait = ""
    load_balancer: Table | None = None
    prioritize_by_locality: Table | None = None
    meta: Meta = {}


class _JwtProvider(_Shape, frozen=True):
    kind: str
    name: Name
    json_web_key_set: Table = msgspec.field(name="JSONWebKeySet")
    issuer: str = ""
    audiences: tuple[str, ...] = ()
    locations: tuple[Table, ...] = ()
    forwarding: Table | None = None
    clock_skew_seconds: Count = 0
    cache_config: Table | None = None
    meta: Meta = {}


INTENTIONS = "service-intentions"
_SHAPES: dict[str, type[_Shape]] = {
    INTENTIONS: _Intentions,
    "service-defaults": _ServiceDefaults,
    "proxy-defaults": _ProxyDefaults,
    "mesh": _Mesh,
    "service-router": _Router,
    "service-splitter": _Splitter,
    "service-resolver": _Resolver,
    "jwt-provider": _JwtProvider,
}
KINDS = tuple(_SHAPES)
CONSULS = (
    "ingress-gateway", "terminating-gateway", "exported-services", "sameness-group", "api-gateway", "bound-api-gateway",
    "inline-certificate", "file-system-certificate", "http-route", "tcp-route", "control-plane-request-limit",
)  # fmt: skip
"""Kinds that Consul keeps besides."""
_UNSUPPORTED = ("Namespace", "Partition")
_SOURCE_UNSUPPORTED = ("Namespace", "Partition", "Peer", "SamenessGroup")
_FIXED_NAMES = {"proxy-defaults": "global", "mesh": "mesh"}


def check_kind(kind: str) -> str:
    """`kind`, when this catalog keeps such entries.

    Raises:
        Missing: Consul keeps them.
        BadRequest: names those that are kept.
    """
    if kind in CONSULS:
        raise Missing(f"the config entry kind {kind} is not implemented by this catalog; known: {', '.join(KINDS)}")
    if kind not in _SHAPES:
        raise BadRequest(f"{kind[:80]!r} is no kind of config entry here; known: {', '.join(_SHAPES)}")
    return kind


def normal_entry(body: dict[str, Any]) -> dict[str, Any]:
    """The entry as it is kept: as given, checked; intentions with their precedence and in its order.

    Raises:
        BadRequest: an unknown kind, key or value.
        Missing: a part that this catalog has not.
    """
    kind = check_kind(str(body.get("Kind", "")))
    entry = {key: value for key, value in body.items() if key not in MARKS and value is not None}
    if kind in _FIXED_NAMES:
        entry.setdefault("Name", _FIXED_NAMES[kind])
    shape = shaped(entry, _SHAPES[kind], _UNSUPPORTED)
    if isinstance(shape, _Intentions):
        entry["Sources"] = _normal_sources(shape)
    return entry


def normal_source(source: dict[str, Any], destination: str, where: str = "") -> dict[str, Any]:
    """One source of an intention as it is kept: with its type and precedence.

    Raises:
        BadRequest, Missing: as `normal_entry`.
    """
    shape = shaped(source, Source, _SOURCE_UNSUPPORTED, where)
    if (shape.action is None) == (not shape.permissions):
        raise BadRequest(f"{where or 'the intention'}: give either Action or Permissions")
    if shape.permissions and destination == ANY:
        raise BadRequest(f"{where or 'the intention'}: Permissions need a destination by name, not {ANY}")
    for permission in shape.permissions:
        _check_permission(permission, where)
    rank = Intention(shape.name, destination, shape.action or "deny").precedence
    return source | {"Type": "consul", "Precedence": rank}


def sorted_sources(sources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Most specific first, as they are evaluated."""
    return sorted(sources, key=lambda source: (-source["Precedence"], source["Name"]))


def _normal_sources(entry: _Intentions) -> list[dict[str, Any]]:
    if not entry.sources:
        raise BadRequest("Sources: give at least one; to remove the intentions, delete the entry")
    made = [normal_source(source, entry.name, f"Sources[{n}]") for n, source in enumerate(entry.sources)]
    seen: set[str] = set()
    for number, source in enumerate(made):
        name = source["Name"]
        if name in seen:
            raise BadRequest(f"Sources[{number}]: the source {name} stands twice; exactly one row decides a pair")
        seen.add(name)
    return sorted_sources(made)


def _check_permission(permission: _Permission, where: str) -> None:
    http = permission.http or _Http()
    paths = [path for path in (http.path_exact, http.path_prefix, http.path_regex) if path]
    if len(paths) > 1:
        raise BadRequest(f"{where}.Permissions: at most one of PathExact, PathPrefix and PathRegex")
    if permission.http is None and permission.jwt is None:
        raise BadRequest(f"{where}.Permissions: a permission needs HTTP or JWT")
    for header in http.header:
        matchers = (header.present, header.exact, header.prefix, header.suffix, header.contains, header.regex)
        if sum(map(bool, matchers)) != 1:
            raise BadRequest(f"{where}.Permissions: header {header.name} needs exactly one way to match")
