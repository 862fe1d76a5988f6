"""`nodeagent.toml` as frozen values; unknown keys and bad values are refused with file, key and cure."""

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import msgspec

from nodeagent import consul_environ, limits
from nodeagent.closed_files import closed_to_root
from nodeagent.errors import ConfigError, ConfigMissing
from nodeagent.model.address import Ip, canonical_ip, parse_address, special_kind
from nodeagent.model.names import HOST_NAME_PATTERN, NAME_PATTERN, is_service_name, name_complaint
from nodeagent.model.service import Mode
from nodeagent.model.snapshot import Fail, Mesh, Units
from nodeagent.model.workload import NO_ID, WorkloadRule, is_unit_name, parse_selector
from nodeagent.tables import StandIns, faults_of, fitting

DEFAULT_PATH = Path("/etc/nodeagent/nodeagent.toml")

_NO_ENVIRONMENT: Mapping[str, str] = {}
_SHARED_DIRECTORIES = ("/", "/run", "/var/run", "/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - refused, not used

Name = Annotated[str, msgspec.Meta(pattern=rf"^{NAME_PATTERN}\Z")]
HostName = Annotated[str, msgspec.Meta(pattern=rf"^{HOST_NAME_PATTERN}\Z")]
Id = Annotated[int, msgspec.Meta(ge=0, le=NO_ID - 1)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Backend = Literal["auto", "nft", "iptables"]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class HostTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[host]: who this machine is and how strict."""

    name: HostName
    """The node's name in the catalog."""
    addresses: tuple[str, ...]
    """This host's mesh addresses, IPv4 and IPv6, all of them; the first is the node's address in the catalog."""
    datacenter: Name = "dc1"
    mode: Mode = "strict"
    workers: Annotated[int, msgspec.Meta(ge=0, le=limits.WORKERS_MAX)] = 0
    """Worker processes; 0: one per core, at most four."""
    control_user: str | Id = "nodeagent"
    worker_user: str | Id = "nodeagent-worker"
    drain_s: Seconds = limits.DRAIN_S
    """What open connections get when the agent is told to stop."""
    drain_max_s: Seconds = limits.DRAIN_MAX_S
    """What connections get that a worker of an earlier generation carries, after a reload or an upgrade."""
    deny_grace_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = limits.DENY_GRACE_S
    """Connections that a change of policy denies are cut evenly over this time, the first at once; 0: all at once."""


class CatalogTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[catalog]: where the mesh is described."""

    address: str
    """`https://host:port`; http only towards loopback. Without it CONSUL_HTTP_ADDR counts, and with that the other variables."""
    token_file: str = "/etc/nodeagent/node.token"  # noqa: S105 - a path
    """Without it, and without an address, CONSUL_HTTP_TOKEN_FILE counts, or CONSUL_HTTP_TOKEN itself."""
    ca_file: str = ""
    """The catalog's own CA; without it, and without an address, CONSUL_CACERT counts; empty: the system's."""
    cert_file: str = ""
    """A certificate to show to a catalog that wants one (verify_incoming); without it, and without an address, CONSUL_CLIENT_CERT counts."""
    key_file: str = ""
    """Its key, without a password; without it, and without an address, CONSUL_CLIENT_KEY counts."""
    server_name: str = ""
    """The name in the catalog's certificate, such as server.dc1.consul, where the address is another; or CONSUL_TLS_SERVER_NAME."""
    plain_http_ok: bool = False
    """Allow http towards an address that is not loopback. For labs."""


class InterceptTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[intercept]: what the kernel sends to the agent."""

    enabled: bool = True
    backend: Backend = "auto"
    """What gets the rules; auto: what has them already, else nft where this host takes it, else iptables."""
    fail: Fail = "closed"
    """When the agent is dead: refuse new mesh connections, or let them bypass it, but never towards strict services."""
    unregistered: Literal["passthrough", "refuse"] = "passthrough"
    """Ports of mesh hosts at which no service is registered."""
    exclude_ports: tuple[Port, ...] = ()
    exclude_cidrs: tuple[str, ...] = ()
    mesh_cidrs: tuple[str, ...] = ()
    """Captured besides the hosts of the catalog."""
    cgroup_root: str = ""
    """This host's cgroup below the cgroup v2 mount; empty: the mount itself. Labs only."""


class IdentityTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[identity]: which processes speak as which service."""

    units: Literal["registered", "any"] | tuple[str, ...] = "registered"
    persist: Literal["memory", "disk"] = "memory"
    """Where keys outlive the agent; on disk in `admin.state_dir`, readable by root alone, for boots without the CA."""


class WorkloadTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[workload]]: processes with this selector speak as this service."""

    selector: str
    """`systemd:id:web.service` or `unix:uid:1001`."""
    service: Name


class ServiceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[service.NAME]: exceptions for one service on this host."""

    mode: Mode | None = None
    fail: Fail | None = None
    """As `intercept.fail`, for calls of and to this service; `open` is for calls to it, and means nothing while it is strict."""
    preserve_source: bool = True
    """The application sees the caller's address; off where it is behind another NAT."""
    plaintext_ok: bool = False
    """May be called in clear, in strict mode, on hosts without an agent."""
    loopback: Literal["open", "enforce"] = "open"
    """Calls by way of 127.0.0.0/8 and ::1: let by, or captured like those to any other address of this host."""
    balance_dialled: bool = False
    """Requests to the address of one instance go to any of them, also where no router, splitter or resolver says so. Of protocol http."""


class TrafficTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[traffic]: requests of this host's workloads."""

    dial_instance: tuple[Name, ...] = ()
    """Callers that mean the very instance whose address they dial, whatever routing is asked for: `prometheus`, health checkers."""


class AdminTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[admin]: where the agent answers the command line and Prometheus."""

    socket: str = "/run/nodeagent/api.sock"
    write_group: str | Id = ""
    """Members of the socket's group who are in this one too may change things, as root may; empty: only root."""
    metrics: str = f"127.0.0.1:{limits.METRICS_PORT}"
    """Address of the Prometheus endpoint; empty: none."""
    state_dir: str = "/var/lib/nodeagent"


class LogTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[log]: what is written to standard error, and where each connection gets its line."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    connections: str = "stdout"
    """One line per ended connection: `stdout`, a file's absolute path, or `off`. Refusals are on standard error in any case."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    host: HostTable
    catalog: CatalogTable
    intercept: InterceptTable = InterceptTable()
    identity: IdentityTable = IdentityTable()
    workload: tuple[WorkloadTable, ...] = ()
    service: dict[Name, ServiceTable] = {}
    traffic: TrafficTable = TrafficTable()
    admin: AdminTable = AdminTable()
    log: LogTable = LogTable()


TABLES: dict[str, type[msgspec.Struct]] = {
    "host": HostTable, "catalog": CatalogTable, "intercept": InterceptTable, "identity": IdentityTable,
    "workload": WorkloadTable, "service": ServiceTable, "traffic": TrafficTable, "admin": AdminTable, "log": LogTable,
}  # fmt: skip
"""For the manual."""

_HOST, _CATALOG = {"name": "host", "addresses": ["192.0.2.1"]}, {"address": "https://catalog.example:8501"}
_STAND_INS: StandIns = {
    Config: {"host": _HOST, "catalog": _CATALOG}, HostTable: _HOST, CatalogTable: _CATALOG,
    WorkloadTable: {"selector": "unix:uid:1", "service": "service"},
}  # fmt: skip
"""For what is missing or wrong: so that the rest can be judged."""

_NO_HOST = {
    "loopback": "means each host itself", "unspecified": "means all of a host's: list them one by one",
    "multicast": "is a group's", "broadcast": "is everybody's",
} | dict.fromkeys(("link-local", "IPv4 link-local"), "means another machine on each link, and is never captured")  # fmt: skip
_NO_MESH = {
    "loopback": 'is captured for services with loopback = "enforce" alone', "unspecified": "is nobody's: all addresses are 0.0.0.0/0 and ::/0",
    "multicast": "has no connections",
} | dict.fromkeys(("link-local", "IPv4 link-local"), "is never captured")  # fmt: skip
_NO_LISTENER = {"multicast": "is a group's", "broadcast": "is everybody's", "link-local": "needs a zone, which no setting takes"}
_NO_PEER = _NO_LISTENER | {"unspecified": "is where one listens, and leads nowhere"}
"""Why addresses of these kinds cannot be what they are set for."""


def load_config(path: Path = DEFAULT_PATH, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in `path`; what it leaves open of the catalog is as Consul's variables say.

    Raises:
        ConfigMissing: there is no such file.
        ConfigError: unreadable, not TOML, an unknown key or a bad value; names file, key and cure.
    """
    return parse_config(read_text(path), str(path), environ)


def read_text(path: Path) -> str:
    """What is in the file.

    Raises:
        ConfigMissing, ConfigError: there is none, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limits.CONFIG_BYTES + 1)
    except OSError as error:
        kind = ConfigMissing if isinstance(error, FileNotFoundError) else ConfigError
        if isinstance(error, PermissionError) and os.geteuid() == 0 and (closed := closed_to_root(path)):
            raise ConfigError(f"{path}: cannot be read by root as the service has it, without CAP_DAC_OVERRIDE: {closed.what}; {closed.cure}") from error
        raise kind(f"{path}: cannot be read: {error.strerror}; is it the file that was meant? (run: --config FILE)") from error
    if len(data) > limits.CONFIG_BYTES:
        raise ConfigError(f"{path}: has more than {limits.CONFIG_BYTES} bytes, and is no configuration")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read: it is no text in UTF-8 ({error.reason} at byte {error.start})") from error


def parse_config(text: str, where: str, environ: Mapping[str, str] = _NO_ENVIRONMENT) -> Config:
    """The configuration in `text`; `where` is what messages call it.

    Raises:
        ConfigError: as `load_config`.
    """
    if faults := find_faults(text, environ):
        more = f" (and {len(faults) - 1} more; see: nodeagent config validate)" if len(faults) > 1 else ""
        raise ConfigError(f"{where}: {faults[0]}{more}")
    return msgspec.convert(consul_environ.completed(tomllib.loads(text), environ), Config)


def find_faults(text: str, environ: Mapping[str, str] = _NO_ENVIRONMENT) -> tuple[str, ...]:
    """All that is wrong with the configuration in `text`, each with key and cure; none: it can be used."""
    try:
        told = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and what Python says of a number of 5,000 digits
        return (f"not TOML: {error}",)
    tables = consul_environ.completed(told, environ)
    usable = msgspec.convert(fitting(tables, Config, _STAND_INS), Config)
    return (*faults_of(tables, Config), *_complaints(usable), *consul_environ.faults_in(told, environ))


def why_never_captured(config: Config, port: int) -> str:
    """Why a service at this port of this host would be reached past the agent; empty where it would not."""
    if not config.intercept.enabled:
        return ""  # nothing is captured, which is told as such
    if port in limits.NEVER_CAPTURED_PORTS:
        return f"port {port} is never captured (ssh, DNS and Consul must work without the agent); use another port"
    if port in config.intercept.exclude_ports:
        return f"port {port} is in intercept.exclude_ports; take it out of there, or use another port"
    if port in agent_ports(config):
        return f"port {port} is the agent's own; use another port"
    return ""


def check_captured(config: Config, port: int) -> None:
    """Nothing, if the kernel brings calls to this port of this host to the agent.

    Raises:
        ConfigError: it does not: such a service would be called by anybody, in clear, and its intentions mean nothing.
    """
    why = why_never_captured(config, port)
    if why:
        raise ConfigError(f"a service there would not be protected: {why}")


def agent_ports(config: Config) -> tuple[int, ...]:
    """Where the agent itself listens."""
    metrics = (parse_address(config.admin.metrics).port,) if config.admin.metrics else ()
    return (limits.OUTBOUND_PORT, limits.INBOUND_PORT, limits.TUNNEL_PORT, *metrics)


def mesh_of(config: Config, trust_domain: str) -> Mesh:
    """What of the configuration decisions depend on."""
    return Mesh(
        trust_domain=trust_domain,
        datacenter=config.host.datacenter,
        host=config.host.name,
        mode=config.host.mode,
        unregistered=config.intercept.unregistered,
        plaintext_ok=tuple(sorted(name for name, table in config.service.items() if table.plaintext_ok)),
        loopback_enforced=tuple(sorted(name for name, table in config.service.items() if table.loopback == "enforce")),
        workloads=tuple(WorkloadRule(parse_selector(w.selector), w.service) for w in config.workload),
        units=config.identity.units,
        fail=config.intercept.fail,
        fail_open=tuple(sorted(name for name, table in config.service.items() if table.fail == "open")),
        fail_closed=tuple(sorted(name for name, table in config.service.items() if table.fail == "closed")),
        dial_instance=tuple(sorted(config.traffic.dial_instance)),
    )


def _complaints(config: Config) -> Iterator[str]:
    """What the types cannot say, each with key and cure."""
    yield from _address_complaints(config.host.addresses)
    for key in ("exclude_cidrs", "mesh_cidrs"):
        yield from _bad_values(f"intercept.{key}", getattr(config.intercept, key), ipaddress.ip_network, "a CIDR")
    yield from _kind_complaints("intercept.mesh_cidrs", config.intercept.mesh_cidrs, ipaddress.ip_network, _NO_MESH, "leave it out")
    for number, workload in enumerate(config.workload):
        yield from _bad_values(f"workload[{number}].selector", (workload.selector,), parse_selector, "a selector")
    root = PurePosixPath(config.intercept.cgroup_root)
    if root.is_absolute() or ".." in root.parts:
        yield f"intercept.cgroup_root: {config.intercept.cgroup_root!r} is not a path below the cgroup v2 mount"
    yield from _unit_complaints(config.identity.units)
    yield from _catalog_complaints(config.catalog)
    if config.log.connections not in ("stdout", "off") and not PurePosixPath(config.log.connections).is_absolute():
        yield f'log.connections: {config.log.connections!r} is not "stdout", "off" or the absolute path of a file'
    yield from _admin_complaints(config)


def _address_complaints(addresses: tuple[str, ...]) -> Iterator[str]:
    bad = list(_bad_values("host.addresses", addresses, ipaddress.ip_address, "an IP address"))
    yield from bad
    yield from _kind_complaints("host.addresses", addresses, _ip_of, _NO_HOST, "give those by which other hosts reach this one")
    if not addresses:
        yield 'host.addresses: give at least one address of this host, such as ["10.0.0.1"]'
    if len(addresses) > limits.HOST_ADDRESSES:
        yield f"host.addresses: {len(addresses)} addresses; the catalog takes {limits.HOST_ADDRESSES} of a host"
    if not bad and len({canonical_ip(text) for text in addresses}) < len(addresses):
        yield "host.addresses: one of them stands there twice; leave it out once"


def _unit_complaints(units: str | tuple[str, ...]) -> Iterator[str]:
    for number, unit in enumerate(units if isinstance(units, tuple) else ()):
        name = unit.removesuffix(".service")
        if is_service_name(name):
            continue
        if is_unit_name(f"{name}.service"):
            cure = f'or name its service in a [[workload]] with selector = "systemd:id:{name}.service"'
            yield f"identity.units[{number}]: {name_complaint(name)}; {cure}"
        else:
            yield f'identity.units[{number}]: {unit!r} is no unit, and patterns are not known here; for every unit: units = "any"'


def _admin_complaints(config: Config) -> Iterator[str]:
    path = PurePosixPath(config.admin.socket)
    if not path.is_absolute() or str(path.parent) in _SHARED_DIRECTORIES or ".." in path.parts:
        yield f"admin.socket: {config.admin.socket!r} is not below a directory of the agent's own, as /run/nodeagent is"
    bad = list(_bad_values("admin.metrics", filter(None, (config.admin.metrics,)), parse_address, "ip:port or [ipv6]:port"))
    yield from bad
    if config.admin.metrics and not bad:
        cure = f"listen at 127.0.0.1:{limits.METRICS_PORT}, or at another address of this host"
        yield from _kind_complaints("admin.metrics", (config.admin.metrics,), lambda text: _ip_of(parse_address(text).ip), _NO_LISTENER, cure)
        ports = agent_ports(config)
        if ports[-1] in ports[:-1]:
            yield f"admin.metrics: port {ports[-1]} is another one of the agent's own; {limits.METRICS_PORT} is usual"


def _catalog_complaints(catalog: CatalogTable) -> Iterator[str]:
    match = re.fullmatch(r"(https?)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})/?", catalog.address)
    if not match or not 1 <= int(match[3]) <= 65535:
        yield f"catalog.address: {_without_secrets(catalog.address)!r} is not https://host:port"
        return
    host = match[2].strip("[]")
    if not re.search(r"[A-Za-z-][^.]*\.?$", host) or ":" in host:  # no name ends in a number
        yield from _bad_values("catalog.address", (host,), ipaddress.ip_address, "an IP address")
        yield from _kind_complaints("catalog.address", (host,), _ip_of, _NO_PEER, "give the address of the catalog's host")
    if match[1] == "http" and not catalog.plain_http_ok and match[2] not in ("127.0.0.1", "localhost", "[::1]"):
        yield "catalog.address: plain http is accepted towards loopback only; use https:// and catalog.ca_file"
    if bool(catalog.cert_file) != bool(catalog.key_file):
        yield "catalog.cert_file and catalog.key_file: one is of no use without the other; give both"


def _without_secrets(address: str) -> str:
    """A URL without what may be a password or token in it: these words go to logs."""
    scheme = address[: address.find("://") + 3] if "://" in address else ""
    user, at, place = address.removeprefix(scheme).rpartition("@")
    return f"{scheme}{'…' if user else ''}{at}{re.sub(r'[?#].*', '?…', place, flags=re.DOTALL)}"


def _bad_values(key: str, values: Iterable[str], parse: object, what: str) -> Iterator[str]:
    for value in values:
        if "%" in value:  # Python takes a zone; neither the catalog nor the kernel's rules know one
            yield f"{key}: {value!r} has a zone (%); leave it out, or give an address that needs none"
        try:
            parse(value)  # type: ignore[operator]
        except ValueError as error:
            yield f"{key}: {value!r} is not {what}: {error}"


def _ip_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(canonical_ip(text))


def _kind_complaints(key: str, values: Iterable[str], parse: Callable[[str], Ip], why_not: Mapping[str, str], cure: str) -> Iterator[str]:
    """About what is right in form, and of a kind that cannot be meant."""
    for value in values:
        with suppress(ValueError):  # told already
            kind = special_kind(parse(value))
            if kind in why_not:
                yield f"{key}: {value!r} is {kind}, which {why_not[kind]}; {cure}"


__all__ = ["Config", "Units", "find_faults", "load_config", "mesh_of", "parse_config", "read_text"]
