"""What is up: labs, hosts, agents, services, addresses."""

from typing import Literal

import msgspec

from nodeagent.lab import agent, cgroup, service, teardown
from nodeagent.lab import state as states
from nodeagent.lab.catalogs import catalog_of
from nodeagent.lab.errors import LabError
from nodeagent.lab.layout import Host
from nodeagent.lab.state import LabState
from nodeagent.model.address import Address
from nodeagent.model.service import Mode

Health = Literal["healthy", "unhealthy", "stopped"]


class ServiceStatus(msgspec.Struct, frozen=True):
    """A service that `lab run` started."""

    name: str
    running: bool
    command: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    """Where it is registered; empty: nowhere."""


class HostStatus(msgspec.Struct, frozen=True):
    """A host of a lab."""

    name: str
    addresses: tuple[str, ...]
    agent: Health
    complaint: str
    """Why the agent is unhealthy; empty: it is not."""
    services: tuple[ServiceStatus, ...]
    mode: str = ""
    """In force now; empty: its agent does not tell."""


class LabStatus(msgspec.Struct, frozen=True):
    """A lab; `broken` says why nothing more can be told, and the cure."""

    name: str
    broken: str = ""
    mode: Mode = "strict"
    """With which its hosts began."""
    catalog: str = ""
    catalog_running: bool = False
    hosts: tuple[HostStatus, ...] = ()


def read_all() -> tuple[LabStatus, ...]:
    """Every lab of this machine."""
    return tuple(read_status(name) for name in teardown.names())


def read_status(name: str) -> LabStatus:
    """The lab `name`, as of now."""
    try:
        state = states.load_state(name)
        hosts = tuple(_host(state, host) for host in state.members)
    except LabError as error:
        return LabStatus(name, broken=str(error))
    chosen = catalog_of(state)
    running = cgroup.is_populated(state.hub.unit_cgroup(chosen.unit))
    return LabStatus(name, "", state.mode, chosen.place, running, hosts)


def _host(state: LabState, host: Host) -> HostStatus:
    services = tuple(
        ServiceStatus(
            name=name,
            running=service.is_running(host, name),
            command=entry.command,
            addresses=tuple(str(Address(ip, entry.port)) for ip in entry.addresses),
        )
        for name, entry in sorted(state.services.get(host.name, {}).items())
    )
    state.holder(host)  # a host without its holder is not there
    is_running = agent.is_running(host)
    mode, complaint = agent.look(host) if is_running else ("", None)
    health: Health = "stopped" if not is_running else "unhealthy" if complaint else "healthy"
    return HostStatus(host.name, (host.ipv4, host.ipv6), health, complaint or "", services, mode)
