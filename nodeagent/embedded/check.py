"""Health checks as Consul's clients register them, checked and turned into our rows."""

import ipaddress
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from nodeagent import limits
from nodeagent.embedded.body import shaped
from nodeagent.embedded.refusal import BadRequest, Missing
from nodeagent.embedded.registration import Key
from nodeagent.model.address import canonical_ip
from nodeagent.model.policy.values import parse_duration

Status = Literal["passing", "warning", "critical"]
Kind = Literal["", "ttl", "tcp", "http"]
"""Who tells how it is: whoever registered it; a process that says so in time; the host's agent, by looking."""

LOOKED_AT = ("tcp", "http")
NODE_MAINTENANCE = "_node_maintenance"
"""Consul's own name for the check of a host that takes no new work: every client of Consul's skips what has it."""
METHODS = ("GET", "HEAD")
"""A check looks: with others, whoever may register one could have another host's agent change things there."""
_TIMEOUT_S = 10.0  # Consul's default
_Text = Annotated[str, msgspec.Meta(max_length=limits.CHECK_TEXT_CHARS)]
_Headers = Annotated[dict[_Text, Annotated[tuple[_Text, ...], msgspec.Meta(max_length=8)]], msgspec.Meta(max_length=16)]
_Times = Annotated[int, msgspec.Meta(ge=0, le=100)]
_UNSUPPORTED = (
    "Args", "Script", "Shell", "DockerContainerID", "GRPC", "GRPCUseTLS", "H2PING", "H2PingUseTLS", "UDP", "OSService", "AliasNode",
    "AliasService", "Body", "TLSServerName", "OutputMaxSize", "FailuresBeforeWarning", "DeregisterCriticalServiceAfter", "ProxyHTTP",
    "ProxyGRPC", "Namespace", "Partition", "PeerName",
)  # fmt: skip


class CheckRow(msgspec.Struct, frozen=True, kw_only=True):
    """A check, as registered; how it is stands beside it."""

    node: str
    id: str
    name: str
    service_id: str = ""
    """Empty: it is about the host, and so about all that runs there."""
    notes: str = ""
    kind: Kind = ""
    ttl_s: float = 0.0
    target: str = ""
    """Of tcp: `10.0.0.1:80`; of http: the URL."""
    method: str = "GET"
    header: dict[str, tuple[str, ...]] = {}
    interval_s: float = 0.0
    timeout_s: float = 0.0
    skip_verify: bool = False
    passes: int = 0
    """So many looks in a row must be well before it counts as passing; fails: likewise. 0: the first one decides."""
    fails: int = 0

    @property
    def ip(self) -> str:
        """The address that is looked at; empty: none, or this host by the name `localhost`."""
        host = _host_of(self)
        return "" if host in ("", "localhost") else host


_KeyOrNone = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{0,128}\Z")]


class _Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal", kw_only=True):
    id: Key | None = msgspec.field(name="ID", default=None)
    check_id: Key | None = msgspec.field(name="CheckID", default=None)
    name: _Text = ""
    notes: _Text = ""
    status: Status | Literal[""] = ""
    service_id: _KeyOrNone = msgspec.field(name="ServiceID", default="")
    ttl: Any = msgspec.field(name="TTL", default="")
    http: _Text = msgspec.field(name="HTTP", default="")
    tcp: _Text = msgspec.field(name="TCP", default="")
    method: _Text = ""
    header: _Headers = {}
    interval: Any = ""
    timeout: Any = ""
    tls_skip_verify: bool = msgspec.field(name="TLSSkipVerify", default=False)
    disable_redirects: bool = True
    success_before_passing: _Times = 0
    failures_before_critical: _Times = 0


class _Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal", kw_only=True):
    """In the body of `/v1/catalog/register`: whoever writes it says how it is."""

    check_id: Key | None = msgspec.field(name="CheckID", default=None)
    node: str = ""
    name: _Text = ""
    notes: _Text = ""
    output: str = ""
    status: Status | Literal[""] = ""
    service_id: _KeyOrNone = msgspec.field(name="ServiceID", default="")
    service_name: str = ""
    service_tags: tuple[str, ...] = ()
    type: str = ""


class Registered(msgspec.Struct, frozen=True):
    """A check, with how it is until somebody says."""

    row: CheckRow
    status: Status
    output: str = ""


def take_checks(body: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """A registration without its checks, and these: Consul takes one, several, or both.

    Raises:
        BadRequest: `Checks` is no list.
    """
    rest = {key: value for key, value in body.items() if key.lower() not in ("check", "checks")}
    found = {key.lower(): value for key, value in body.items() if value is not None and key not in rest}
    several = found.get("checks", [])
    if not isinstance(several, list):
        raise BadRequest("Checks: must be a list")
    return rest, [*([found["check"]] if found.get("check") else []), *several]


def parse_check(body: dict[str, Any], node: str) -> Registered:
    """What one `/v1/agent/check/register` asks for.

    Raises:
        BadRequest: not a valid check.
        Missing: a kind of check, or a key, that this catalog has not.
    """
    return _registered(shaped(body, _Check, _UNSUPPORTED), node, "", "")


def parse_checks_of(checks: list[Any], node: str, service_id: str, service: str) -> tuple[Registered, ...]:
    """The checks that stand in the registration of a service.

    Raises:
        BadRequest, Missing: as `parse_check`, or too many.
    """
    if len(checks) > limits.CHECKS_PER_SERVICE:
        raise BadRequest(f"Checks: {len(checks)} checks of one service, at most {limits.CHECKS_PER_SERVICE}")
    made = []
    for number, each in enumerate(checks, 1):
        where = f"Checks[{number - 1}]" if len(checks) > 1 else "Check"
        asked = shaped(each, _Check, _UNSUPPORTED, where)
        default = f"service:{service_id}" + (f":{number}" if len(checks) > 1 else "")
        made.append(_registered(asked, node, service_id, default, f"Service '{service}' check", f"{where}."))
    return _distinct(made)


def parse_told(checks: list[Any], node: str, service_id: str) -> tuple[Registered, ...]:
    """The checks that stand in the registration of a host: its own where they name no service, as with Consul.

    service_id: of the service beside them, by which one is called that has no name; empty: none.

    Raises:
        BadRequest, Missing: as `parse_check`.
    """
    if len(checks) > limits.CHECKS_PER_SERVICE:
        raise BadRequest(f"Checks: {len(checks)} checks at once, at most {limits.CHECKS_PER_SERVICE}")
    made = []
    for each in checks:
        asked = shaped(each, _Told, ("Definition", "Namespace", "Partition", "PeerName"), "Check")
        if asked.node not in ("", node):
            raise BadRequest(f"Check.Node: {asked.node[:80]!r}, and the registration is of {node}")
        named = asked.service_id or service_id
        check_id = asked.check_id or asked.name or (f"service:{named}" if named else "")
        if not check_id:
            raise BadRequest("Check.CheckID: give it one")
        _check_id(check_id, "Check.")
        row = CheckRow(node=str(node), id=check_id, name=asked.name or check_id, service_id=asked.service_id, notes=asked.notes)
        made.append(Registered(row, asked.status or "critical", cut(asked.output)))
    return _distinct(made)


def cut(output: str) -> str:
    """As much of what a check said as is kept: as bytes of an answer, which has those of every instance."""
    while (size := len(msgspec.json.encode(output)) - 2) > limits.CHECK_OUTPUT_BYTES:  # without its quotes
        output = output[: limits.CHECK_OUTPUT_BYTES * len(output) // size]
    return output


def _registered(asked: _Check, node: str, service_id: str, default: str, name: str = "", where: str = "") -> Registered:
    check_id = asked.check_id or asked.id or default or asked.name
    if not check_id:
        raise BadRequest(f"{where}Name: give the check a name")
    _check_id(check_id, where)
    if not asked.disable_redirects:
        raise Missing(f"{where}DisableRedirects: a check follows no redirect here: leave it out")
    kind = _kind(asked, where)
    row = CheckRow(
        node=str(node), id=check_id, name=asked.name or name or check_id, service_id=service_id or asked.service_id, notes=asked.notes,
        kind=kind, passes=asked.success_before_passing, fails=asked.failures_before_critical, **_how(asked, kind, where),
    )  # fmt: skip
    return Registered(row, asked.status or "critical")


def _check_id(check_id: str, where: str) -> None:
    try:
        msgspec.convert(check_id, Key)
    except msgspec.ValidationError:
        raise BadRequest(f"{where}CheckID: a name that is no ID: give one of up to 128 characters of ASCII") from None
    if check_id in (".", ".."):
        raise BadRequest(f"{where}CheckID: {check_id!r} is no ID: no path can end with it, so nobody could say how it is")
    if check_id == NODE_MAINTENANCE:
        raise BadRequest(f"{where}CheckID: {check_id} is the host's maintenance: PUT /v1/agent/maintenance")


def _kind(asked: _Check, where: str) -> Kind:
    said: list[Kind] = []
    if _duration(asked.ttl, f"{where}TTL"):
        said.append("ttl")
    if asked.tcp:
        said.append("tcp")
    if asked.http:
        said.append("http")
    if len(said) != 1:
        raise BadRequest(f"{where.rstrip('.') or 'the check'}: give one of TTL, HTTP and TCP, with an Interval for HTTP and TCP")
    return said[0]


def _how(asked: _Check, kind: Kind, where: str) -> dict[str, Any]:
    if kind == "ttl":
        if _duration(asked.interval, f"{where}Interval"):
            raise BadRequest(f"{where}Interval: of a TTL check there is none, as nobody looks")
        return {"ttl_s": _seconds(asked.ttl, f"{where}TTL")}
    interval_s = _seconds(asked.interval, f"{where}Interval")
    timeout_s = _duration(asked.timeout, f"{where}Timeout") or _TIMEOUT_S
    if timeout_s > limits.CHECK_TIMEOUT_MAX_S:
        raise BadRequest(f"{where}Timeout: at most {limits.CHECK_TIMEOUT_MAX_S:g} s")
    how = {"interval_s": interval_s, "timeout_s": timeout_s, "skip_verify": asked.tls_skip_verify}
    if kind == "tcp":
        return how | {"target": _tcp_target(asked.tcp, f"{where}TCP")}
    method = asked.method.upper() or "GET"
    if method not in METHODS:
        raise Missing(f"{where}Method: a check by {method[:16]} is not implemented by this catalog; by {' and '.join(METHODS)} is")
    return how | {"target": _url(asked.http, f"{where}HTTP"), "method": method, "header": _headers(asked.header, where)}


def _duration(said: object, key: str) -> float:
    try:
        return parse_duration(said).seconds
    except ValueError as error:
        raise BadRequest(f"{key}: {error}") from None


def _seconds(said: object, key: str) -> float:
    seconds = _duration(said, key)
    if not limits.CHECK_INTERVAL_MIN_S <= seconds <= limits.CHECK_INTERVAL_MAX_S:
        raise BadRequest(f"{key}: from {limits.CHECK_INTERVAL_MIN_S:g} s to {limits.CHECK_INTERVAL_MAX_S / 3600:g} h")
    return seconds


def _tcp_target(text: str, key: str) -> str:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not port or parts.path or parts.query or parts.fragment or "@" in text:
        raise BadRequest(f"{key}: {text[:80]!r} is not an address with a port, such as 127.0.0.1:5432")
    host = _host(host, key)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _url(text: str, key: str) -> str:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc or not (text.isascii() and text.isprintable()) or " " in text:
        raise BadRequest(f"{key}: {text[:80]!r} is not a URL such as http://127.0.0.1:8080/health; names and passwords go into Header")
    _host(host, key)
    return text


def _host(host: str, key: str) -> str:
    """An address in its one spelling, or `localhost`: whoever resolves another name could be led elsewhere."""
    if host == "localhost":
        return host
    try:
        return str(ipaddress.ip_address(canonical_ip(host)))
    except ValueError:
        raise BadRequest(f"{key}: {host[:80]!r} is neither an IP address nor localhost") from None


def _headers(header: dict[str, tuple[str, ...]], where: str) -> dict[str, tuple[str, ...]]:
    for name, values in header.items():
        if not name or any(not text.isascii() or not text.isprintable() for text in (name, *values)) or ":" in name or " " in name:
            raise BadRequest(f"{where}Header: {name[:80]!r} is no header")
    return header


def _host_of(row: CheckRow) -> str:
    text = f"//{row.target}" if row.kind == "tcp" else row.target
    return urlsplit(text).hostname or "" if row.target else ""


def _distinct(made: list[Registered]) -> tuple[Registered, ...]:
    ids = [each.row.id for each in made]
    if len({*ids}) < len(ids):
        raise BadRequest("Checks: two of them have one CheckID")
    return tuple(made)
