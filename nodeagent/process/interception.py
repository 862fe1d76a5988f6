"""Configuration to what the redirect package understands."""

import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from nodeagent import limits
from nodeagent.config import Config, mesh_of
from nodeagent.errors import ConfigError
from nodeagent.process.privileges import resolve_user
from redirect.backend import choose_backend
from redirect.settings import Settings

_UNIT, _UID = "systemd:id:", "unix:uid:"


def _warn(what: str) -> None:
    """To standard error: standard output may be read by a program."""
    sys.stderr.write(f"warning: {what}\n")


def read_settings(config: Config, warn: Callable[[str], None] = _warn) -> Settings:
    """The settings of this host, with user and host names resolved now.

    A catalog whose name cannot be resolved now is left out, as the supervisor does: at boot the rules come before the
    network, and a host without rules would be open.

    Raises:
        ConfigError: a user does not exist.
        RedirectError: no backend takes them.
    """
    try:
        catalog = resolve_catalog(config.catalog.address)
    except ConfigError as error:
        warn(f"{error}; it is exempt by port only")
        catalog = ()
    settings = settings_of(
        config,
        control_uid=resolve_user(config.host.control_user, "host.control_user").uid,
        worker_uid=resolve_user(config.host.worker_user, "host.worker_user").uid,
        catalog=catalog,
    )
    return with_backend(config, settings)


def settings_of(
    config: Config, *, control_uid: int, worker_uid: int, catalog: tuple[tuple[str, int], ...] = ()
) -> Settings:
    """What the configuration asks the kernel to capture. `catalog`: each (ip, port) at which the catalog answers."""
    intercept = config.intercept
    return Settings(
        agent_uids=tuple(sorted({control_uid, worker_uid})),
        cgroup_root=intercept.cgroup_root,
        outbound_port=limits.OUTBOUND_PORT,
        inbound_port=limits.INBOUND_PORT,
        tunnel_port=limits.TUNNEL_PORT,
        other_ports=_metrics_port(config.admin.metrics),
        exclude_ports=intercept.exclude_ports,
        exclude_cidrs=intercept.exclude_cidrs,
        exclude_addresses=catalog,
        mesh_cidrs=intercept.mesh_cidrs,
        backend="iptables" if intercept.backend == "iptables" else "nft",
        fail=mesh_of(config, "").unnamed_fail,
        knows_callers=_knows_callers(config),
        closed_uids=_closed_uids(config),
    )


def closed_units(config: Config) -> Callable[[str], bool]:
    """Whether a unit, such as `web.service`, speaks as a service that may never bypass a dead agent, or is called as one."""
    closed = mesh_of(config, "").fail_closed
    named = {rule.selector.removeprefix(_UNIT) for rule in config.workload if rule.service in closed}
    return lambda unit: unit in named or unit.removesuffix(".service") in closed


def _knows_callers(config: Config) -> bool:
    """Whether some callers must be told from others, where anything may bypass at all."""
    mesh = mesh_of(config, "")
    return bool(mesh.fail_closed) and (mesh.fail == "open" or bool(mesh.fail_open))


def _closed_uids(config: Config) -> tuple[int, ...]:
    rules = (rule for rule in config.workload if rule.selector.startswith(_UID) and rule.service in mesh_of(config, "").fail_closed)
    return tuple(sorted({int(rule.selector.removeprefix(_UID)) for rule in rules}))


def with_backend(config: Config, settings: Settings) -> Settings:
    """The settings with what `auto` means on this host.

    Raises:
        RedirectError: no backend takes them.
    """
    return replace(settings, backend=choose_backend(settings)) if config.intercept.backend == "auto" else settings


def resolve_catalog(address: str) -> tuple[tuple[str, int], ...]:
    """Every (ip, port) behind the catalog's URL.

    Raises:
        ConfigError: its host name cannot be resolved.
    """
    url = urlsplit(address)
    try:
        found = socket.getaddrinfo(url.hostname, url.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # ValueError: a port beyond 65535, or a name that no resolver takes
        raise ConfigError(f"catalog.address: {address} cannot be resolved: {error}") from error
    return tuple(sorted({(str(row[4][0]), int(row[4][1])) for row in found}))


def _metrics_port(listen: str) -> tuple[int, ...]:
    """The port in `127.0.0.1:15020`; none if metrics are off."""
    port = listen.rpartition(":")[2]
    return (int(port),) if port.isdecimal() else ()
