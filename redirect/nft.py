"""Rules as nft's text, and nft's text taken apart again. Pure: nothing here talks to the kernel.

What a listing should look like is not guessed: versions of nft differ in how they print. kernel.py loads the plan a
second time, as a dormant table, and compares two listings by the same nft.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from redirect.rules import (
    Accept,
    Action,
    Beating,
    Bypass,
    Chain,
    Condition,
    Count,
    Established,
    FromLoopback,
    Goto,
    InCgroup,
    Jump,
    Leaving,
    Marked,
    NamedSet,
    NotFromAddressSet,
    NotFromNetworks,
    NotMarkedFrom,
    OfFamily,
    OfUsers,
    Opening,
    Ranges,
    RedirectTo,
    Reset,
    Rule,
    SetMark,
    StampFrom,
    Table,
    Tcp,
    ToAddressSet,
    ToEndpoints,
    ToEndpointSet,
    Told,
    ToNetworks,
    ToPorts,
    ToPortSet,
    ToThisHost,
    TproxyTo,
    Translated,
)  # fmt: skip

FAMILY = "inet"
_IP = {4: "ip", 6: "ip6"}
_LOOPBACK = {4: "127.0.0.1", 6: "[::1]"}
_DORMANT = "flags dormant"
_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}  # nft's units of time


@dataclass(frozen=True, slots=True)
class Blocks:
    """A table's text: lines of its own, and the body of each set, map and chain by its heading, such as `chain out`."""

    head: tuple[str, ...] = ()
    bodies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_dormant(self) -> bool:
        """Whether packets do not see the table."""
        return _DORMANT in self.head

    @property
    def chains(self) -> tuple[str, ...]:
        """Headings of the chains."""
        return tuple(heading for heading in self.bodies if heading.startswith("chain "))

    @property
    def sets(self) -> tuple[str, ...]:
        """Headings of sets, maps and counters."""
        return tuple(heading for heading in self.bodies if not heading.startswith("chain "))


# --- values to text ------------------------------------------------------------------------------------------------


def render_table(table: Table) -> str:
    """The whole table as nft reads it."""
    bodies = {heading_of(named): tuple(_set_lines(named)) for named in table.sets}
    bodies |= {"chain " + chain.name: tuple(_chain_lines(chain)) for chain in table.chains}
    return render_blocks(table.name, Blocks((), bodies))


def render_blocks(name: str, blocks: Blocks, *, dormant: bool = False) -> str:
    """A table with this name and content; a dormant one is loaded, but no packet ever sees it."""
    lines = [f"table {FAMILY} {name} {{"]
    lines += [f"\t{line}" for line in (*blocks.head, *([_DORMANT] if dormant and not blocks.is_dormant else []))]
    for heading, body in blocks.bodies.items():
        lines += [f"\t{heading} {{", *(f"\t\t{line}" for line in body), "\t}", ""]
    if lines[-1] == "":
        lines.pop()
    return "\n".join([*lines, "}", ""])


def render_swap(name: str, *, found: Blocks, wanted: Blocks, kept: Iterable[str]) -> str:
    """One transaction from an installed table to another content.

    Sets in `kept` are not touched, so what the agent has put into them stays; the others are made anew, empty. A
    dormant table stays dormant.
    """
    kept = frozenset(kept)
    new = {heading: body for heading, body in wanted.bodies.items() if heading not in kept}
    return "\n".join([
        *(f"flush {_target(name, heading)}" for heading in found.chains),
        *(f"delete {_target(name, heading)}" for heading in found.chains),
        *(f"delete {_target(name, heading)}" for heading in found.sets if heading not in kept),
        render_blocks(name, Blocks(wanted.head, new), dormant=found.is_dormant),
    ])  # fmt: skip


def render_waking(name: str) -> str:
    """Makes a dormant table see packets. A transaction of its own: the kernel allows no other change beside it."""
    return f"add table {FAMILY} {name}\n"


def render_sleeping(name: str) -> str:
    """Makes a table dormant."""
    return render_blocks(name, Blocks(), dormant=True)


def render_removal(name: str) -> str:
    """Removes a table, whether it is there or not."""
    return f"add table {FAMILY} {name}\ndelete table {FAMILY} {name}\n"


def heading_of(named: NamedSet) -> str:
    """What a set is listed under, such as `set mesh4`."""
    kind = "counter" if named.kind == "counter" else "map" if named.to_mark else "set"
    return f"{kind} {named.name}"


def _target(table: str, heading: str) -> str:
    kind, _, name = heading.partition(" ")
    return f"{kind} {FAMILY} {table} {name}"


def _set_lines(named: NamedSet) -> Iterator[str]:
    if named.kind == "counter":
        return
    yield f"type {named.kind}" + (" : mark" if named.to_mark else "")
    if named.timeout_s:
        yield "flags timeout"
        yield f"timeout {named.timeout_s}s"


def _chain_lines(chain: Chain) -> Iterator[str]:
    if chain.hook:
        yield f"type {chain.hook.kind} hook {chain.hook.point} priority {chain.hook.priority}; policy accept;"
    yield from map(_rule_line, chain.rules)


def _rule_line(rule: Rule) -> str:
    words = [*map(_condition, rule.conditions)]
    if rule.counted:
        words.append("counter")
    words.append(_action(rule.action))
    if rule.why:
        words.append(f'comment "{rule.why}"')
    return " ".join(words)


def _condition(condition: Condition) -> str:  # noqa: PLR0911 - one return per kind is the clearest table
    match condition:
        case ToPorts() | ToPortSet() | ToNetworks() | ToAddressSet() | ToEndpoints() | ToEndpointSet() | ToThisHost():
            return _destination(condition)
        case NotFromNetworks(family, networks):
            return f"{_IP[family]} saddr != {_braces(networks)}"
        case NotFromAddressSet(family, name):
            return f"{_IP[family]} saddr != @{name}"
        case Tcp(holds):
            return f"meta l4proto {_not(holds)}tcp"
        case Opening(holds):
            return f"tcp flags & (fin|syn|rst|ack) {'==' if holds else '!='} syn"
        case OfFamily(family):
            return f"meta nfproto ipv{family}"
        case FromLoopback() | Leaving():
            return 'iifname "lo"' if isinstance(condition, FromLoopback) else 'oifname != "lo"'
        case Established():
            return "ct state established"
        case Translated():
            return "ct status dnat"
        case _:
            return _socket(condition)


def _socket(condition: OfUsers | InCgroup | Beating | Told | Marked | NotMarkedFrom) -> str:
    """What is known of the sender, and of whether the agent lives."""
    match condition:
        case OfUsers(uids):
            return f"meta skuid {_braces(uids)}"
        case InCgroup(level, name):
            return f"socket cgroupv2 level {level} @{name}"
        case Beating(name, holds):
            return f"meta l4proto {_not(holds)}@{name}"
        case Told(name):
            return f"meta l4proto @{name}"
        case NotMarkedFrom(name):
            return f"meta mark != @{name}"
        case Marked(ranges):
            return f"meta mark {_ranges(ranges, '#x')}"


def _destination(  # noqa: PLR0911 - one return per kind is the clearest table
    condition: ToPorts | ToPortSet | ToNetworks | ToAddressSet | ToEndpoints | ToEndpointSet | ToThisHost,
) -> str:
    match condition:
        case ToPorts(ranges):
            return f"tcp dport {_ranges(ranges)}"
        case ToPortSet(name, holds):
            return f"tcp dport {_not(holds)}@{name}"
        case ToNetworks(family, networks):
            return f"{_IP[family]} daddr {_braces(networks)}"
        case ToAddressSet(family, name):
            return f"{_IP[family]} daddr @{name}"
        case ToEndpoints(family, endpoints):
            return f"{_IP[family]} daddr . tcp dport {_braces(f'{address} . {port}' for address, port in endpoints)}"
        case ToEndpointSet(family, name):
            return f"{_IP[family]} daddr . tcp dport @{name}"
        case ToThisHost(holds):
            return f"fib daddr type {_not(holds)}local"


def _action(action: Action) -> str:  # noqa: C901, PLR0911 - one return per kind is the clearest table
    match action:
        case Accept():
            return "accept"
        case Bypass(counter):
            return f"counter name {counter} accept"
        case Count():
            return "counter"
        case Jump(chain):
            return f"jump {chain}"
        case Goto(chain):
            return f"goto {chain}"
        case RedirectTo(port):
            return f"meta l4proto tcp redirect to :{port}"
        case TproxyTo(family, port):
            return f"meta l4proto tcp tproxy {_IP[family]} to {_LOOPBACK[family]}:{port} accept"
        case Reset():
            return "meta l4proto tcp reject with tcp reset"
        case SetMark(mark):
            return f"meta mark set {mark:#x}"
        case StampFrom(level, name):
            return f"meta mark set socket cgroupv2 level {level} map @{name}"


def _not(holds: bool) -> str:  # noqa: FBT001 - the only argument there is
    return "" if holds else "!= "


def _braces(items: Iterable[object]) -> str:
    return "{ " + ", ".join(map(str, items)) + " }"


def _ranges(ranges: Ranges, form: str = "d") -> str:
    texts = [format(a, form) if a == b else f"{a:{form}}-{b:{form}}" for a, b in ranges]
    return texts[0] if len(texts) == 1 else _braces(texts)


# --- elements ------------------------------------------------------------------------------------------------------


def render_fill(table: str, heading: str, elements: Iterable[str]) -> str:
    """The set holds exactly these elements from now on; packets see the old or the new content, nothing between."""
    return f"flush {_target(table, heading)}\n" + render_add(table, heading, elements)


def render_add(table: str, heading: str, elements: Iterable[str]) -> str:
    """These elements are added; those that are there already do no harm."""
    return _elements("add", table, heading, elements)


def render_drop(table: str, heading: str, elements: Iterable[str]) -> str:
    """These elements are removed; one that is not there fails the transaction."""
    return _elements("delete", table, heading, elements)


def _elements(verb: str, table: str, heading: str, elements: Iterable[str]) -> str:
    listed = ", ".join(elements)
    return f"{verb} element {FAMILY} {table} {heading.partition(' ')[2]} {{ {listed} }}\n" if listed else ""


# --- text to values ------------------------------------------------------------------------------------------------


def parse_table(text: str) -> Blocks:
    """The listing of one table taken apart. Comments of nft (from `#`) and `flags dormant` of a twin are not dropped."""
    head: list[str] = []
    bodies: dict[str, tuple[str, ...]] = {}
    body: list[str] | None = None
    heading = ""
    for raw in text.splitlines()[1:]:
        line = re.sub(r"\s+#.*$", "", raw.strip())
        if body is None and (opened := re.fullmatch(r"((?:set|map|counter|chain) \S+) \{", line)):
            heading, body = opened[1], []
        elif body is not None and line == "}":
            bodies[heading], body = tuple(body), None
        elif line and line != "}":
            (head if body is None else body).append(line)
    return Blocks(tuple(head), bodies)


def elements_in(body: Iterable[str]) -> frozenset[str]:
    """The elements in a set's listing, each as nft prints it."""
    found = re.search(r"elements = \{(.*)\}", " ".join(body))
    return frozenset(element.strip() for element in found[1].split(",")) if found else frozenset()


def holds_cgroups(body: Iterable[str]) -> bool:
    """Whether the set with this body is keyed by cgroup."""
    return any("cgroupsv2" in line for line in body if line.startswith("type "))


def aged(element: str, passed_s: float) -> str | None:
    """The element so many seconds after it was listed; None if its time has run out by then."""
    listed = re.search(r"expires (\S+)", element)
    if not listed:
        return element
    left_ms = sum(int(n) * _MS[unit] for n, unit in re.findall(r"(\d+)(ms|[dhms])", listed[1])) - round(passed_s * 1000)
    return element.replace(listed[0], f"expires {left_ms}ms") if left_ms > 0 else None


def awakened(twin: Blocks) -> Blocks:
    """What the listing of a dormant twin would be if it were not dormant."""
    return Blocks(tuple(line for line in twin.head if line != _DORMANT), twin.bodies)


def differences(name: str, found: Blocks, expected: Blocks) -> Iterator[str]:
    """Each difference as a sentence; nothing if the tables are the same."""
    where = f"table {FAMILY} {name}"
    yield from _line_differences(where, found.head, expected.head)
    for heading in dict.fromkeys((*expected.bodies, *found.bodies)):
        if heading not in found.bodies:
            yield f"{where}: {heading} is missing"
        elif heading not in expected.bodies:
            yield f"{where}: {heading} is not ours"
        else:
            yield from _line_differences(f"{where}, {heading}", found.bodies[heading], expected.bodies[heading])


def _line_differences(where: str, found: Iterable[str], expected: Iterable[str]) -> Iterator[str]:
    for line in difflib.ndiff([*expected], [*found]):
        if line.startswith("- "):
            yield f"{where}: missing: {line[2:]}"
        elif line.startswith("+ "):
            yield f"{where}: not ours: {line[2:]}"
