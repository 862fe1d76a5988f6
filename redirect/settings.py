"""What to capture and what never to: the input of the plan, checked."""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from redirect.errors import RedirectError

SSH_PORT = 22  # losing it means losing the host
DNS_PORT = 53  # names must resolve before anything else works, the catalog's own included
CONSUL_PORTS = (8300, 8301, 8302, 8500, 8501, 8502, 8503, 8600)  # server RPC, gossip, HTTP(S), gRPC(S), DNS
NEVER_PORTS = (SSH_PORT, DNS_PORT, *CONSUL_PORTS)

LOOPBACK_NETWORKS = ("127.0.0.0/8", "::1/128")  # never captured either, but at the ports of services that ask for it

Backend = Literal["nft", "iptables"]
Fail = Literal["closed", "open"]

NEVER_NETWORKS = (
    "169.254.0.0/16",  # link-local, and the metadata service of most clouds
    "fe80::/10",
    "fd00:ec2::254/128",  # metadata of AWS over IPv6
    "168.63.129.16/32",  # platform address of Azure
    "100.100.100.200/32",  # metadata of Alibaba Cloud
)

OUTBOUND_PORT, INBOUND_PORT, TUNNEL_PORT = 15001, 15006, 15008  # as other meshes: operators know these numbers

UNIT_MARKS = (0x5A000000, 0x5A00FFFF)  # what the stamp sets: one value per unit of this host

_OWN_TABLES = (253, 254, 255)  # default, main, local
_MAIN_PREFERENCE = 32766

CGROUP_DEPTH = 4  # system.slice/web.service is two levels below the root; slices may be nested twice more


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnPath:
    """How packets of source-preserving connections come back to this host."""

    mark: int = 0x5B
    """On the agent's own connections to local applications, and inherited by the applications' sockets."""
    table: int = 133
    """Routing table with one route: everything is local."""
    preference: int = 1330
    """Of the policy rule from the mark to the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the rules of one host depend on. Addresses of the mesh and units come later, as set elements."""

    agent_uids: tuple[int, ...]
    """Users of the agent's unprivileged processes. They, and root, are exempt inside the agent's cgroups only."""
    cgroup_root: str = ""
    """This host's cgroup below the cgroup v2 mount; empty on a real host, set in labs."""
    outbound_port: int = OUTBOUND_PORT
    inbound_port: int = INBOUND_PORT
    tunnel_port: int = TUNNEL_PORT
    other_ports: tuple[int, ...] = ()
    """Further ports of the agent, such as its metrics."""
    exclude_ports: tuple[int, ...] = ()
    """Never captured, in either direction."""
    exclude_cidrs: tuple[str, ...] = ()
    """Destinations that are never captured. An exclusion opens nothing for callers from there."""
    exclude_addresses: tuple[tuple[str, int], ...] = ()
    """Single (ip, port) that are never captured: the catalog's."""
    catalog_port: int = 0
    """Where the catalog has a name: its port, never captured at the addresses that the elements say. 0: it has none."""
    mesh_cidrs: tuple[str, ...] = ()
    """Captured besides the addresses that the catalog knows."""
    backend: Backend = "nft"
    """Which part of the kernel gets the rules."""
    fail: Fail = "closed"
    """While no agent beats: refuse new connections, or let them bypass the agent; the elements know the exceptions."""
    knows_callers: bool = False
    """Some callers may never bypass it, so that only those may whose mark says so. iptables stamps nobody: there nobody may."""
    closed_uids: tuple[int, ...] = ()
    """Nor may what these users run, whatever its mark."""
    unit_marks: tuple[int, int] = UNIT_MARKS
    """First and last mark that a stamp may set."""
    return_path: ReturnPath = ReturnPath()

    def __post_init__(self) -> None:
        """Refuses what no kernel rule can mean.

        Raises:
            RedirectError: names the setting and the value.
        """
        for complaint in _complaints(self):
            raise RedirectError(complaint)

    @property
    def agent_ports(self) -> tuple[int, ...]:
        """Every port that the agent itself listens on."""
        return (self.outbound_port, self.inbound_port, self.tunnel_port, *self.other_ports)

    @property
    def cgroup_levels(self) -> range:
        """Levels below the cgroup v2 root at which a unit of this host may be."""
        base = len([part for part in self.cgroup_root.split("/") if part])
        return range(base + 1, base + CGROUP_DEPTH + 1)


def _complaints(settings: Settings) -> Iterator[str]:
    if not settings.agent_uids or min(settings.agent_uids) <= 0:
        yield f"agent_uids {settings.agent_uids}: the agent needs users of its own, not root"
    ports = (*settings.agent_ports, *settings.exclude_ports, *(port for _, port in settings.exclude_addresses))
    ports += (settings.catalog_port,) if settings.catalog_port else ()
    yield from (f"port {port}: not between 1 and 65535" for port in ports if not 1 <= port <= 65535)
    if len(set(settings.agent_ports)) != len(settings.agent_ports):
        yield f"agent ports {settings.agent_ports}: each must differ from the others"
    yield from _bad_networks((*settings.exclude_cidrs, *settings.mesh_cidrs))
    yield from _bad_networks(address for address, _ in settings.exclude_addresses)
    yield from _bad_return_path(settings.return_path)
    first, last = settings.unit_marks
    mark = settings.return_path.mark
    if not 0 < first <= last <= 0xFFFFFFFF or not 0 < mark <= 0xFFFFFFFF or first <= mark <= last:
        yield f"marks {first:#x} to {last:#x} and {mark:#x}: must be a range and one value outside it"


def _bad_return_path(path: ReturnPath) -> Iterator[str]:
    if not 0 < path.table <= 0xFFFFFFFF or path.table in _OWN_TABLES:
        yield f"routing table {path.table}: must be a number of its own, not one of the kernel's"
    if not 0 < path.preference < _MAIN_PREFERENCE:
        yield f"preference {path.preference}: must be between the kernel's local rule (0) and its main rule ({_MAIN_PREFERENCE})"


def _bad_networks(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            yield f"{text!r} is no address or network: {error}"
