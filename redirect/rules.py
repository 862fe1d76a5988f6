"""The vocabulary of a rule set: frozen values that say what a packet must be and what happens to it, in no tool's syntax."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Family = Literal[4, 6]
Ranges = tuple[tuple[int, int], ...]
"""Numbers as (first, last), sorted, disjoint."""


# --- conditions: all those of a rule must hold ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tcp:
    """The packet is TCP, or is not."""

    holds: bool = True


@dataclass(frozen=True, slots=True)
class Opening:
    """The packet opens a connection: SYN without FIN, RST and ACK.

    Conntrack's "new" is something else: it also means old connections that conntrack sees for the first time.
    """

    holds: bool = True


@dataclass(frozen=True, slots=True)
class ToPorts:
    """The destination port is one of these."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class ToPortSet:
    """The destination port is in a named set."""

    name: str
    holds: bool = True


@dataclass(frozen=True, slots=True)
class ToNetworks:
    """The destination address is in one of these."""

    family: Family
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToAddressSet:
    """The destination address is in a named set."""

    family: Family
    name: str


@dataclass(frozen=True, slots=True)
class ToEndpoints:
    """Destination address and port together are one of these."""

    family: Family
    endpoints: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class ToEndpointSet:
    """Destination address and port together are in a named set."""

    family: Family
    name: str


@dataclass(frozen=True, slots=True)
class ToThisHost:
    """The destination address is one of this host's own."""

    holds: bool = True


@dataclass(frozen=True, slots=True)
class NotFromNetworks:
    """The source address is in none of these."""

    family: Family
    networks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotFromAddressSet:
    """The source address is of this family and not in a named set."""

    family: Family
    name: str


@dataclass(frozen=True, slots=True)
class OfFamily:
    """The packet is IPv4 or IPv6."""

    family: Family


@dataclass(frozen=True, slots=True)
class FromLoopback:
    """The packet came in over the loopback interface: its sender is on this host."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """The packet leaves this host. What a host sends to itself goes out over the loopback interface, whatever the address."""


@dataclass(frozen=True, slots=True)
class OfUsers:
    """The sending socket belongs to one of these uids."""

    uids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class InCgroup:
    """The sending socket's ancestor cgroup at this level is in a named set."""

    level: int
    name: str


@dataclass(frozen=True, slots=True)
class Beating:
    """An agent has beaten the dead-man switch lately, or has not."""

    name: str
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Told:
    """The agent has said what is excepted from this host's fail mode."""

    name: str


@dataclass(frozen=True, slots=True)
class NotMarkedFrom:
    """The packet's mark is not in a named set."""

    name: str


@dataclass(frozen=True, slots=True)
class Marked:
    """The packet carries one of these marks."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Established:
    """Conntrack knows the connection."""


@dataclass(frozen=True, slots=True)
class Translated:
    """Some nat has given the connection another destination."""


Condition = (
    Tcp | Opening | ToPorts | ToPortSet | ToNetworks | ToAddressSet | ToEndpoints | ToEndpointSet | ToThisHost
    | NotFromNetworks | NotFromAddressSet | OfFamily | FromLoopback | Leaving | OfUsers | InCgroup | Beating | Told | Marked
    | NotMarkedFrom | Established | Translated
)  # fmt: skip


# --- actions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accept:
    """This hook is done with the packet; other tables and later hooks still see it."""


@dataclass(frozen=True, slots=True)
class Bypass:
    """As Accept, and the connection is counted in a named counter: it goes around a dead agent."""

    counter: str


@dataclass(frozen=True, slots=True)
class Count:
    """Only counts."""


@dataclass(frozen=True, slots=True)
class Jump:
    """Goes through another chain and comes back."""

    chain: str


@dataclass(frozen=True, slots=True)
class Goto:
    """Goes to another chain and does not come back."""

    chain: str


@dataclass(frozen=True, slots=True)
class RedirectTo:
    """Sends the connection to a port of this host, on loopback for local callers."""

    port: int


@dataclass(frozen=True, slots=True)
class TproxyTo:
    """Gives the packet to a transparent socket on loopback, addresses unchanged; no such socket: the next rule."""

    family: Family
    port: int


@dataclass(frozen=True, slots=True)
class Reset:
    """Answers with a TCP reset."""


@dataclass(frozen=True, slots=True)
class SetMark:
    """Sets the packet's mark."""

    mark: int


@dataclass(frozen=True, slots=True)
class StampFrom:
    """Sets the mark that a named map holds for the socket's ancestor cgroup at this level; none: leaves it."""

    level: int
    name: str


Action = Accept | Bypass | Count | Jump | Goto | RedirectTo | TproxyTo | Reset | SetMark | StampFrom


# --- what they are put together to ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """If all conditions hold, the action."""

    conditions: tuple[Condition, ...]
    action: Action
    why: str = ""
    """One line for whoever lists the rules."""
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Hook:
    """Where the kernel enters a chain; lower priorities come first."""

    kind: Literal["filter", "nat", "route"]
    point: Literal["input", "output", "prerouting"]
    priority: int


@dataclass(frozen=True, slots=True)
class Chain:
    """Rules in order; without a hook, only jumps lead here."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None


SetKind = Literal[
    "ipv4_addr", "ipv6_addr", "ipv4_addr . inet_service", "ipv6_addr . inet_service", "inet_service", "inet_proto", "cgroupsv2",
    "mark", "counter",
]  # fmt: skip
"""`counter` has no elements: it is a number that rules raise."""


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A set whose elements change while the rules stay."""

    name: str
    kind: SetKind
    timeout_s: int = 0
    """Elements vanish after this; 0: they stay."""
    to_mark: bool = False
    """It is a map, from each element to a mark."""


@dataclass(frozen=True, slots=True)
class Table:
    """Sets and chains that are installed, compared and removed together."""

    name: str
    sets: tuple[NamedSet, ...]
    chains: tuple[Chain, ...]


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All tables of one host: the one that captures, and the one that keeps captured connections alive without it."""

    main: Table
    keeper: Table

    def __iter__(self) -> Iterator[Table]:
        return iter((self.main, self.keeper))
