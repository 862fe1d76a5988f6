"""Where a lab's things are: names, addresses, directories, cgroups; pure."""

import re
from dataclasses import dataclass
from pathlib import Path

from nodeagent import limits
from nodeagent.lab.errors import LabError, NoLabName
from nodeagent.model.names import is_service_name, name_complaint

BASE = Path("/run/nodeagent-lab")
"""Every lab's directory, state file and lock are below it; it is gone when the last lab is."""
CGROUP = "nodeagent-lab"
"""Every lab's processes are in cgroups below it, and nothing else is."""
OWN_DIRECTORIES = {
    "run": Path("/run/nodeagent"),
    "state": Path("/var/lib/nodeagent"),
    "etc": Path("/etc/nodeagent"),
}
"""What each host sees as its own: the name below its directory, and where it is mounted for it."""
DEFAULT_NAME = "lab"
HUB = "hub"
HUB_NUMBER = 250
CATALOG_PORT = 8501
AGENT = "nodeagent"
"""The unit of the agent, and therefore no service's name."""
CONTROL_UID, WORKER_UID = 64901, 64902  # numbers without an account, above those that adduser hands out
FIRST_SUBNET, LAST_SUBNET = 77, 99  # two decimal digits, so that 10.77.0.1 and fd77::1 are seen to belong together

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Host:
    """One host of a lab, or its hub: the namespace with the bridge and the catalog."""

    lab: str
    subnet: int
    number: int

    @property
    def name(self) -> str:
        """`host1`, `host2`, … or `hub`."""
        return HUB if self.number == HUB_NUMBER else f"host{self.number}"

    @property
    def ipv4(self) -> str:
        """Its IPv4 address in the lab."""
        return f"10.{self.subnet}.0.{self.number}"

    @property
    def ipv6(self) -> str:
        """Its IPv6 address in the lab; the same digits, for the reader."""
        return f"fd{self.subnet}::{self.number}"

    @property
    def directory(self) -> Path:
        """Everything that is this host's alone."""
        return lab_directory(self.lab) / self.name

    @property
    def cgroup(self) -> str:
        """Its root in the cgroup tree, relative to the cgroup v2 mount."""
        return f"{CGROUP}/{self.lab}/{self.name}"

    @property
    def holder_cgroup(self) -> str:
        """Where the process lives that keeps the namespaces open: as PID 1's on a real host."""
        return f"{self.cgroup}/init.scope"

    def unit_cgroup(self, service: str) -> str:
        """Where systemd would put SERVICE.service."""
        return f"{self.cgroup}/system.slice/{service}.service"

    @property
    def session_cgroup(self) -> str:
        """Where a login's processes are: no unit, so no identity."""
        return f"{self.cgroup}/user.slice/user-0.slice/session-1.scope"

    def own(self, which: str) -> Path:
        """The machine's path of one of this host's OWN_DIRECTORIES."""
        return self.directory / which

    def log(self, service: str) -> Path:
        """Standard output and error of a service of this host."""
        return self.directory / "log" / f"{service}.log"


def lab_directory(name: str) -> Path:
    """Everything of one lab on disk."""
    return BASE / name


def agent_command(lab: str, host: str, action: str) -> str:
    """What an operator types to start or stop the agent of a lab's host."""
    return f"nodeagent lab agent {_named(lab)}{host} {action}"


def catalog_command(lab: str, action: str) -> str:
    """What an operator types to start or stop a lab's catalog."""
    return f"nodeagent lab catalog {_named(lab)}{action}"


def _named(lab: str) -> str:
    return "" if lab == DEFAULT_NAME else f"--name {lab} "


def hub_of(name: str, subnet: int) -> Host:
    """The hub of a lab."""
    return Host(name, subnet, HUB_NUMBER)


def hosts_of(name: str, subnet: int, count: int) -> tuple[Host, ...]:
    """The hosts of a lab, host1 first."""
    return tuple(Host(name, subnet, number) for number in range(1, count + 1))


def catalog_url(hub: Host) -> str:
    """Where a lab's catalog answers."""
    return f"https://{hub.ipv4}:{CATALOG_PORT}"


def checked_name(name: str) -> str:
    """`name`, if a lab can be called so.

    Raises:
        NoLabName: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise NoLabName(f"{name!r} cannot name a lab: use up to 32 lower-case letters, digits and inner hyphens")
    return name


def checked_service(name: str) -> str:
    """`name`, if a service of a lab can be called so.

    Raises:
        NoLabName: it cannot, or it is the agent's own unit.
    """
    if not is_service_name(name):
        raise NoLabName(name_complaint(name))
    if name == AGENT:
        raise NoLabName(f"{AGENT}.service is the agent's own unit; use `nodeagent lab agent`")
    return name


def checked_count(hosts: int) -> int:
    """`hosts`, if a lab can have so many.

    Raises:
        NoLabName: it cannot.
    """
    if not 1 <= hosts <= limits.LAB_HOSTS:
        raise NoLabName(f"a lab has 1 to {limits.LAB_HOSTS} hosts, not {hosts}")
    return hosts


def free_subnet(name: str, taken: frozenset[int]) -> int:
    """The number NN of 10.NN.0.0/24 and fdNN::/64 for a new lab; the default lab always has 77.

    Raises:
        LabError: none is left.
    """
    if name == DEFAULT_NAME and FIRST_SUBNET not in taken:
        return FIRST_SUBNET
    for subnet in range(FIRST_SUBNET + 1, LAST_SUBNET + 1):
        if subnet not in taken:
            return subnet
    raise LabError(f"{len(taken)} labs are up already; remove one with `nodeagent lab down --name NAME`")
