"""Configuration to what the redirect package understands."""

from collections.abc import Callable
from dataclasses import replace

import msgspec

from nodeagent import limits
from nodeagent.config import Config, mesh_of
from nodeagent.model.address import canonical_ip
from nodeagent.process.privileges import resolve_user
from redirect.backend import choose_backend
from redirect.settings import Settings

_UNIT, _UID = "systemd:id:", "unix:uid:"


def read_settings(config: Config) -> Settings:
    """The settings of this host, with user names resolved now.

    Raises:
        ConfigError: a user does not exist.
        RedirectError: no backend takes them.
    """
    settings = settings_of(
        config,
        control_uid=resolve_user(config.host.control_user, "host.control_user").uid,
        worker_uid=resolve_user(config.host.worker_user, "host.worker_user").uid,
    )
    return with_backend(config, settings)


def settings_of(config: Config, *, control_uid: int, worker_uid: int) -> Settings:
    """What the configuration asks the kernel to capture.

    No host name is resolved here: rules come before the network, and must not wait for it. Control tells where the catalog's leads.
    """
    intercept = config.intercept
    catalog, catalog_port = _endpoint(config.catalog.address)
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
        catalog_port=catalog_port,
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


def basis_of(config: Config) -> bytes:
    """All that decides, beside the catalog, what may bypass a dead agent, and more: where it differs, nothing may until control has spoken."""
    return msgspec.json.encode((config.host, config.intercept, config.service))


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


def _endpoint(address: str) -> tuple[tuple[tuple[str, int], ...], int]:
    """Of the catalog's URL, which is checked: the one endpoint, or the port alone where it has a name."""
    host, _, port = address.rstrip("/").rpartition("//")[2].rpartition(":")
    try:
        return ((canonical_ip(host.strip("[]")), int(port)),), 0
    except ValueError:
        return (), int(port)


def _metrics_port(listen: str) -> tuple[int, ...]:
    """The port in `127.0.0.1:15020`; none if metrics are off."""
    port = listen.rpartition(":")[2]
    return (int(port),) if port.isdecimal() else ()
