"""What probes can learn of the kernel, as frozen values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Release:
    """The kernel."""

    text: str
    numbers: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Expressions:
    """What a dry run of nftables refuses: expression and the kernel's words."""

    refused: tuple[tuple[str, str], ...] = ()
    backend: str = "nft"


@dataclass(frozen=True, slots=True)
class Identification:
    """Whether callers can be named: transparent sockets, conntrack, sock_diag; empty: all of it works."""

    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The cgroup v2 tree, in which units are found."""

    mount: str
    """Empty: there is none."""
    root: str = ""
    is_root_there: bool = True


@dataclass(frozen=True, slots=True)
class Conntrack:
    """The connection table."""

    count: int
    most: int


@dataclass(frozen=True, slots=True)
class Ephemeral:
    """Ports that clients get, and those kept from them."""

    first: int
    last: int
    reserved: tuple[tuple[int, int], ...] = ()
    used: int = 0
    """Of them, in connections from one address to `used_to`: no pair of ends has more."""
    used_to: str = ""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Listening queues: their limit, and how often one was full, before and while we looked."""

    most: int
    overflows: int
    grown: int
