"""What probes can learn of a host, as frozen values: no judgement is in them."""

from dataclasses import dataclass
from typing import Literal, TypeVar, Union

from nodeagent.diagnose.kernel_facts import Backlog, Cgroups, Conntrack, Ephemeral, Expressions, Identification, Release

Fact = TypeVar("Fact")


@dataclass(frozen=True, slots=True)
class Blind:
    """It could not be looked at."""

    why: str


Seen = Union[Fact, Blind, None]  # noqa: UP007 - with a variable in it, the other spelling is no type to mypy
"""A fact; why there is none; None: it does not concern this host now."""


@dataclass(frozen=True, slots=True)
class AgentState:
    """What the running agent says of itself."""

    error: str = ""
    """Why it does not answer; empty: it does."""
    cure: str = ""
    """What helps then; empty: it is not known."""
    is_silent: bool = False
    """It is there, and did not answer in time."""
    ask_it: str = "nodeagent status"
    """The command that it answers."""
    version: str = ""
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """Whether the configuration can be used."""

    path: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Programs:
    """The interpreter and the libraries."""

    python: str
    missing: tuple[str, ...] = ()
    """Libraries that cannot be loaded, and why: `ngh2 (No module named 'ngh2')`."""
    closed: str = ""
    """What lets nobody but its owner in: the agent's users could not run what is there; empty: nothing."""


@dataclass(frozen=True, slots=True)
class StartLink:
    """The link to the version that starts next, where versions are installed side by side."""

    path: str
    target: str
    """Empty: there is no link."""
    is_whole: bool
    """A program is where it leads."""
    installed: tuple[str, ...] = ()
    running: str = ""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file that the agent reads."""

    path: str
    what: str
    mode: int | None
    """Permission bits; None: there is no such file."""
    owner: str = ""
    is_secret: bool = False
    is_needed: bool = True
    is_readable: bool = True
    """By the user who needs it."""
    is_foreign: bool = False
    """Its owner is neither root nor the user who needs it."""
    reader: str = "root"
    closed: str = ""
    """The place that keeps the agent's root from it, with owner and mode; empty: none does."""
    cure: str = ""
    """Of `closed`."""


@dataclass(frozen=True, slots=True)
class Room:
    """The state directory."""

    path: str
    exists: bool = True
    is_read_only: bool = False
    owner_uid: int = 0
    wanted_uid: int = 0
    is_closed_to_root: bool = False
    """And `identity.persist` wants keys to be kept there."""
    free_bytes: int = 0
    free_inodes: int = 0


@dataclass(frozen=True, slots=True)
class PortUse:
    """One of the agent's ports."""

    port: int
    holder: str
    """Empty: it is free."""
    is_ours: bool = False
    """A process of the agent that answers."""
    is_of_nodeagent: bool = False
    """One of an agent, by its name."""
    is_kept: bool = False
    """By systemd alone, or a lab's store of descriptors, as listeners of an agent that is to start again are."""
    is_in_lab: bool = False
    """It is the lab's store that keeps it."""
    is_unseen: bool = False
    """By a process that only root sees."""
    silence: Literal["hang", "unasked", "settling"] = "hang"
    """Of an agent's process that answers nobody here: another socket was named; or it is being replaced, or starts."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the whole machine, in bytes."""

    available: int
    total: int


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Open files: of the machine, and what one of the agent's processes may have (0: no agent runs)."""

    used: int
    most: int
    of_agent: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """The interception rules against the plan."""

    is_enabled: bool = True
    backends: tuple[str, ...] = ()
    """Those that hold rules of ours."""
    is_capturing: bool = False
    """Not only what open connections need is there."""
    drift: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    """Tables that an interrupted comparison left behind, and others that bear our name."""


@dataclass(frozen=True, slots=True)
class Redirection:
    """Somebody else's rule that sends connections elsewhere."""

    place: str
    """Table and chain."""
    rule: str
    hook: str = ""
    """`prerouting` or `output`; empty: of no base chain that was found."""
    priority: int = 0
    mesh: str = ""
    """Whose it is, where the chain's name tells."""


@dataclass(frozen=True, slots=True)
class Managers:
    """What else changes firewall rules here: `firewalld`, `docker`, `ufw`, `nftables.service`."""

    found: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReversePath:
    """How an interface checks sources; the stricter of its own setting and that of all counts."""

    interface: str
    rp_filter: int
    src_valid_mark: bool = False


@dataclass(frozen=True, slots=True)
class Addresses:
    """The mesh addresses of the configuration that no interface has."""

    missing: tuple[str, ...] = ()
    wanted: int = 0


@dataclass(frozen=True, slots=True)
class CatalogLink:
    """Whether the catalog answers, and how it was verified."""

    address: str
    error: str = ""
    is_headless: bool = False
    """It is Consul's agent that answers, and has no servers to ask."""
    is_tls: bool = True
    is_pinned: bool = True
    """A CA of its own is configured."""
    is_loopback: bool = False


@dataclass(frozen=True, slots=True)
class TokenRights:
    """What the catalog says of this host's token."""

    host: str
    """As configured."""
    error: str = ""
    acls_off: bool = False
    node: str = ""
    """Whose it is; empty: not told."""
    is_management: bool = False
    services: tuple[str, ...] = ()
    unspoken: tuple[str, ...] = ()
    """Services registered on this host that it may not speak for."""
    has_policies: bool = False
    """It has rights that are not told by names of services: Consul's policies or roles."""
    is_consul: bool = False
    """Whether the catalog is known to be a Consul agent."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """This host's row in the catalog."""

    host: str
    is_registered: bool = False
    is_marked: bool = False
    """It says that an agent takes tunnels here."""
    missing: tuple[str, ...] = ()
    """Configured addresses that it lacks."""
    surplus: tuple[str, ...] = ()
    is_drained: bool = False
    missing_rule: str = ""
    """What the token needs to be shown the row; empty: it would see it."""


@dataclass(frozen=True, slots=True)
class LocalService:
    """A registered instance of this host, and who listens there."""

    id: str
    addresses: tuple[str, ...]
    port: int
    heard: tuple[str, ...] = ()
    """Addresses on which somebody listens at that port."""
    is_answering: bool = True
    is_loopback: bool = False
    """It is registered at an address that other hosts take for their own."""
    looped: tuple[str, ...] = ()
    """Checks of Consul's agent that are captured on their way to it."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One check of this host in the catalog."""

    id: str
    service: str
    """The instance that it is of; empty: the host."""
    status: str
    output: str
    """What was said last of it."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of this host, in Unix seconds."""

    service: str
    state: str
    not_before: float = 0.0
    not_after: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Certificates:
    """All of them, and when they were looked at."""

    now: float
    trust_domain: str = ""
    held: tuple[Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """Another host with an agent, and what a handshake with it gave."""

    host: str
    address: str
    unreached: str = ""
    """Why no connection came about."""
    distrusted: str = ""
    """Why what it showed is not believed."""
    identity: str = ""
    """What it proved to be; empty: it has no service to ask for, so it was connected to and no more."""


@dataclass(frozen=True, slots=True)
class Peers:
    """Those that were looked at."""

    seen: tuple[Peer, ...] = ()
    unseen: int = 0
    """More that there are."""


@dataclass(frozen=True, slots=True)
class Clock:
    """This host's clock against another's, in seconds; positive: ours is ahead."""

    ahead_s: float
    within_s: float
    """How far the measurement may be off."""


@dataclass(frozen=True, slots=True)
class TimeService:
    """Whether the kernel's clock is kept by somebody (NTP, PTP)."""

    is_synchronized: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that was learned of one host. Field by field what `judge` asks about, in the order of the report."""

    agent: Seen[AgentState] = None
    config: Seen[ConfigFile] = None
    programs: Seen[Programs] = None
    start_link: Seen[StartLink] = None
    users: Seen[str] = None
    """What is wrong with the two users; empty: nothing."""
    files: Seen[tuple[FileState, ...]] = None
    room: Seen[Room] = None
    ports: Seen[tuple[PortUse, ...]] = None
    memory: Seen[Memory] = None
    descriptors: Seen[Descriptors] = None
    release: Seen[Release] = None
    expressions: Seen[Expressions] = None
    identification: Seen[Identification] = None
    cgroups: Seen[Cgroups] = None
    conntrack: Seen[Conntrack] = None
    ephemeral: Seen[Ephemeral] = None
    backlog: Seen[Backlog] = None
    rules: Seen[Rules] = None
    redirections: Seen[tuple[Redirection, ...]] = None
    managers: Seen[Managers] = None
    reverse_path: Seen[tuple[ReversePath, ...]] = None
    addresses: Seen[Addresses] = None
    link: Seen[CatalogLink] = None
    token: Seen[TokenRights] = None
    enrolment: Seen[Enrolment] = None
    services: Seen[tuple[LocalService, ...]] = None
    health: Seen[tuple[HealthCheck, ...]] = None
    certificates: Seen[Certificates] = None
    peers: Seen[Peers] = None
    clock: Seen[Clock] = None
    time_service: Seen[TimeService] = None
