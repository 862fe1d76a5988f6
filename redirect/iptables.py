"""Rules as iptables knows them: tables that everybody shares, chains of our own in them. Pure: nothing here talks to the kernel.

What differs from nft, and how the same plan is said all the same:

* `accept` would end the chain for everybody's rules, so it becomes RETURN, and chains that are jumped to are written out.
* Only the filter table refuses. A chain of PREROUTING stands in mangle, where it gives packets to the agent, and in INPUT,
  where it refuses those that mangle did not.
* A cgroup that has ended makes the kernel refuse every later change of its table. So the agent is told by its cgroup in
  one chain of mangle only, which marks its connections; the other tables ask for that mark.
* Nothing stamps: callers are found by the slower look-up.
"""

import ipaddress
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from redirect.iptables_lines import AGENTS_CHAIN, TABLES, IpSet, Layout, Line, Words, is_ours
from redirect.plan import KEEPER, MAIN
from redirect.rules import (
    Accept,
    Action,
    Beating,
    Bypass,
    Chain,
    Condition,
    Count,
    Established,
    Family,
    FromLoopback,
    Goto,
    Hook,
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
    RedirectTo,
    Reset,
    Rule,
    Ruleset,
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
from redirect.settings import Settings

_MARKER_CHAIN = "ident"  # of all that ask for the agent's mark the one that a packet meets first
AGENT_MARK = "0x4000000/0x4000000"  # one bit of a connection's mark, which only CAP_NET_ADMIN can set; others keep theirs
_FORGET_AGENT = "0x0/0x4000000"
_SYN = ["FIN,SYN,RST,ACK", "SYN"]
_PORTS_PER_RULE = 15  # of the multiport match; a range counts twice
_ALL_ADDRESSES: Mapping[Family, tuple[str, str]] = {4: ("0.0.0.0/1", "128.0.0.0/1"), 6: ("::/1", "8000::/1")}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}

# --- the plan ------------------------------------------------------------------------------------------------------


def render_layout(ruleset: Ruleset, family: Family) -> Layout:
    """All tables of one family."""
    layout: Layout = {table: {} for table in TABLES}
    for table in ruleset:
        for chain in table.chains:
            for place, point in _places(chain.hook):
                name = _chain_name(table, chain.name)
                layout[place].setdefault(point, []).append(Line({}, [], name, {}))
                layout[place][name] = _Writer(table, family, place, chain.name).lines(chain.rules)
                layout[place] |= _reached(table, chain, family, place)
    layout["mangle"][AGENTS_CHAIN] = []
    return {table: chains for table, chains in layout.items() if chains}


def keeper_of(layout: Layout) -> Layout:
    """Only what keeps redirected connections alive."""
    return {table: {chain: kept for chain in chains if (kept := _kept(chain, chains[chain])) is not None} for table, chains in layout.items()}


def _kept(chain: str, lines: list[Line]) -> list[Line] | None:
    """What of a chain the keeper needs; None: it needs no such chain."""
    if is_ours(chain):
        return lines if chain.startswith(KEEPER) else None
    return [line for line in lines if line.target.startswith(KEEPER)] or None


def agent_lines(settings: Settings, cgroup_paths: Iterable[str]) -> list[Line]:
    """The content of the chain that knows the agent: uid and cgroup. A cgroup counts with all below it."""
    root_and_agents = sorted({0, *settings.agent_uids})
    return [
        Line(
            {"protocol": "tcp"},
            [("owner", {"uid-owner": [str(uid)]}), ("cgroup", {"path": [f"/{path.strip('/')}"]})],
            "CONNMARK",
            {"set-xmark": [AGENT_MARK]},
        )
        for path in cgroup_paths
        for uid in root_and_agents
    ]


def ipsets_of(ruleset: Ruleset) -> tuple[IpSet, ...]:
    """The named sets of the plan; the last one is empty, and says that the keeper is there."""
    sets = (ipset for table in ruleset for named in table.sets for ipset in _ipsets(table, named))
    return (*sets, IpSet(KEEPER, "bitmap:port", 4))


def any_address(family: Family) -> tuple[str, ...]:
    """Every address, for what is true or not, or counts: a set of ipset needs something of the packet to look for."""
    return _ALL_ADDRESSES[family]


def set_name(name: str, table: str = MAIN) -> str:
    """What the set of the plan is called in the kernel, where all programs' sets are in one list."""
    return f"{table}_{name}"


def _ipsets(table: Table, named: NamedSet) -> Iterator[IpSet]:
    name = set_name(named.name, table.name)
    match named.kind:
        case "ipv4_addr":
            yield IpSet(name, "hash:ip", 4)
        case "ipv6_addr":
            yield IpSet(name, "hash:ip", 6)
        case "inet_service":
            yield IpSet(name, "bitmap:port", 4)
        case "ipv4_addr . inet_service":
            yield IpSet(name, "hash:ip,port", 4)
        case "ipv6_addr . inet_service":
            yield IpSet(name, "hash:ip,port", 6)
        case "inet_proto" | "counter":
            yield IpSet(f"{name}4", "hash:net", 4, named.timeout_s, named.kind == "counter")
            yield IpSet(f"{name}6", "hash:net", 6, named.timeout_s, named.kind == "counter")
        case "cgroupsv2" | "mark":
            pass


def _chain_name(table: Table, name: str) -> str:
    return f"{table.name}_{name}"


def _places(hook: Hook | None) -> tuple[tuple[str, str], ...]:
    """(table, built-in chain) at which iptables has this hook; none: only jumps lead there."""
    if hook is None:
        return ()
    point = hook.point.upper()
    if hook.kind == "nat":
        return (("nat", point),)
    if hook.point == "prerouting":
        return (("mangle", point), ("filter", "INPUT"))
    return (("mangle" if hook.priority <= -150 else "filter", point),)


def _reached(table: Table, chain: Chain, family: Family, place: str) -> dict[str, list[Line]]:
    """The chains that this one goes to."""
    names = {rule.action.chain for rule in chain.rules if isinstance(rule.action, Goto)}
    found = (other for other in table.chains if other.name in names)
    return {_chain_name(table, o.name): _Writer(table, family, place, o.name).lines(o.rules) for o in found}


# --- rules ---------------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """What one condition adds to a line."""

    basics: dict[str, str]
    matches: tuple[tuple[str, Words], ...]


class _Writer:
    """Writes the rules of one chain for one family and one table. Owned by the call that makes it."""

    def __init__(self, table: Table, family: Family, place: str, chain: str) -> None:
        self._table, self._family, self._place, self._chain = table, family, place, chain
        self._jumped = {other.name: other.rules for other in table.chains}
        self._has_asked = False

    def lines(self, rules: Iterable[Rule]) -> list[Line]:
        """The rules as iptables has them; those of the other family are left out."""
        return [line for rule in rules for line in self._rule(rule)]

    def _rule(self, rule: Rule) -> list[Line]:
        if isinstance(rule.action, Jump):
            return self.lines(self._jumped[rule.action.chain])
        is_left_out = isinstance(rule.action, StampFrom) or Tcp(holds=False) in rule.conditions
        if is_left_out or self._is_other_family(rule) or self._is_asked_already(rule):
            return []
        before = self._marking() if _asks_for_agent(rule) else []
        return [*before, *(line for parts in self._parts(rule) for line in self._finished(rule, parts))]

    def _is_asked_already(self, rule: Rule) -> bool:
        """The plan has a rule for each level of cgroups; the path of one knows its own."""
        asked, self._has_asked = self._has_asked, self._has_asked or _asks_for_agent(rule)
        return asked and _asks_for_agent(rule)

    def _is_other_family(self, rule: Rule) -> bool:
        values = (*rule.conditions, rule.action)
        return any(getattr(value, "family", self._family) != self._family for value in values)

    def _marking(self) -> list[Line]:
        """Once per packet, before the first question for the mark: forgotten, then set anew if it is the agent's."""
        if self._chain != _MARKER_CHAIN:
            return []
        forget = _part(connmark={"mark": [AGENT_MARK]})
        return [
            Line({"protocol": "tcp"}, [*forget.matches], "CONNMARK", {"set-xmark": [_FORGET_AGENT]}),
            Line({"protocol": "tcp"}, [], AGENTS_CHAIN, {}),
        ]

    def _parts(self, rule: Rule) -> Iterator[tuple[_Part, ...]]:
        """Each way in which all conditions hold: those with several values are lines of their own."""
        is_asked = _asks_for_agent(rule)  # whose chain has asked for its users, too
        asked = (condition for condition in rule.conditions if not (is_asked and isinstance(condition, OfUsers)))
        return itertools.product(*(self._alternatives(condition) for condition in asked))

    def _finished(self, rule: Rule, parts: Iterable[_Part]) -> Iterator[Line]:
        basics = {} if _is_for_all(rule) else {"protocol": "tcp"}
        matches: list[tuple[str, Words]] = []
        for part in parts:
            basics |= part.basics
            matches += part.matches
        if isinstance(rule.action, TproxyTo):
            # Mangle: what an application already holds is left to it. INPUT: what the agent has got is let in.
            socket: Words = {} if self._place == "mangle" else {"transparent": []}
            held = [("tcp", {"tcp-flags": ["!", *_SYN]})] if self._place == "mangle" else []
            yield Line(basics, [*matches, *held, ("socket", socket)], "RETURN", {})
            if self._place != "mangle":
                return
        if isinstance(rule.action, Bypass) and self._place != "mangle":  # INPUT sees it again, and counts
            matches += self._in_set(f"{rule.action.counter}{self._family}", "dst", holds=True).matches
        comment = [("comment", {"comment": [rule.why]})] if rule.why else []
        target, options = self._target(rule.action)
        yield Line(basics, [*matches, *comment], target, options, isinstance(rule.action, Goto))

    def _target(self, action: Action) -> tuple[str, Words]:
        match action:
            case Accept() | Bypass() | Count():
                return "RETURN", {}
            case Goto(chain) | Jump(chain):
                return _chain_name(self._table, chain), {}
            case RedirectTo(port):
                return "REDIRECT", {"to-ports": [str(port)]}
            case TproxyTo(family, port):
                return "TPROXY", {"on-port": [str(port)], "on-ip": [_LOOPBACK[family]]}
            case Reset():
                return ("REJECT", {"reject-with": ["tcp-reset"]}) if self._place == "filter" else ("RETURN", {})
            case SetMark(mark):
                return "MARK", {"set-xmark": [f"{mark:#x}/0xffffffff"]}
            case StampFrom():
                raise AssertionError

    def _alternatives(self, condition: Condition) -> list[_Part]:  # noqa: PLR0911 - one return per kind is the clearest table
        match condition:
            case ToPorts() | ToNetworks() | ToEndpoints() | ToEndpointSet() | ToThisHost() | ToPortSet() | ToAddressSet():
                return self._destinations(condition)
            case Tcp():
                return [_Part({}, ())]  # every line asks for TCP; python-iptables takes "not TCP" of IPv6 for anything
            case Opening(holds):
                return [_part(tcp={"tcp-flags": [*_not(holds), *_SYN]})]
            case NotFromAddressSet(_, name):
                return [self._in_set(name, "src", holds=False)]
            case NotFromNetworks(_, networks):
                return [_part(*(("iprange", {"src-range": ["!", _range(network)]}) for network in networks))]
            case FromLoopback():
                return [_Part({"in_interface": "lo"}, ())]
            case Leaving():
                return [_Part({"out_interface": "!lo"}, ())]
            case Established():
                return [_part(conntrack={"ctstate": ["ESTABLISHED"]})]
            case Translated():
                return [_part(conntrack={"ctstate": ["DNAT"]})]
            case _:
                return self._senders(condition)

    def _senders(self, condition: OfUsers | OfFamily | InCgroup | Beating | Told | Marked | NotMarkedFrom) -> list[_Part]:
        match condition:
            case OfUsers(uids):
                return [_part(owner={"uid-owner": [str(uid)]}) for uid in uids]
            case OfFamily():
                return [_Part({}, ())]  # families have tables of their own
            case InCgroup():
                return [_part(connmark={"mark": [AGENT_MARK]})]
            case Beating(name, holds):
                return [self._in_set(f"{name}{self._family}", "dst", holds=holds)]
            case Told(name):
                return [self._in_set(f"{name}{self._family}", "dst", holds=True)]
            case NotMarkedFrom():
                raise AssertionError
            case Marked(ranges):
                return [_part(mark={"mark": [mark]}) for first, last in ranges for mark in _masks(first, last)]

    def _destinations(  # noqa: PLR0911 - one return per kind is the clearest table
        self, condition: ToPorts | ToNetworks | ToEndpoints | ToEndpointSet | ToThisHost | ToPortSet | ToAddressSet
    ) -> list[_Part]:
        match condition:
            case ToPorts(ranges):
                return [_part(multiport={"dports": [ports]}) for ports in _port_lists(ranges)]
            case ToNetworks(_, networks):
                return [_Part({"dst": _whole(network)}, ()) for network in networks]
            case ToEndpoints(_, endpoints):
                return [_Part({"dst": _whole(a)}, (("tcp", {"dport": [str(p)]}),)) for a, p in endpoints]
            case ToEndpointSet(_, name):
                return [self._in_set(name, "dst,dst", holds=True)]
            case ToThisHost(holds):
                return [_part(addrtype={"dst-type": [*_not(holds), "LOCAL"]})]
            case ToPortSet(name, holds):
                return [self._in_set(name, "dst", holds=holds)]
            case ToAddressSet(_, name):
                return [self._in_set(name, "dst", holds=True)]

    def _in_set(self, name: str, side: str, *, holds: bool) -> _Part:
        return _part(set={"match-set": [*_not(holds), set_name(name, self._table.name), side]})


def _asks_for_agent(rule: Rule) -> bool:
    return any(isinstance(condition, InCgroup) for condition in rule.conditions)


def _part(*more: tuple[str, Words], **matches: Words) -> _Part:
    return _Part({}, (*more, *matches.items()))


def _not(holds: bool) -> list[str]:  # noqa: FBT001 - the only argument there is
    return [] if holds else ["!"]


def _is_for_all(rule: Rule) -> bool:
    """Whether the rule means packets that are not TCP, too."""
    if isinstance(rule.action, Reset | RedirectTo):
        return False
    return not rule.conditions or any(isinstance(c, FromLoopback | Established) for c in rule.conditions)


def _whole(address: str) -> str:
    return str(ipaddress.ip_network(address))


def _range(network: str) -> str:
    whole = ipaddress.ip_network(network)
    return f"{whole[0]}-{whole[-1]}"


def _masks(first: int, last: int) -> Iterator[str]:
    """The range as values with masks: marks are 32 bits, as IPv4 addresses are."""
    for block in ipaddress.summarize_address_range(ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)):
        yield f"{int(block.network_address):#x}/{int(block.netmask):#x}"


def _port_lists(ranges: Iterable[tuple[int, int]]) -> Iterator[str]:
    """As many ports as one rule takes."""
    words: list[str] = []
    room = _PORTS_PER_RULE
    for first, last in ranges:
        size = 1 if first == last else 2
        if size > room:
            yield ",".join(words)
            words, room = [], _PORTS_PER_RULE
        words.append(str(first) if first == last else f"{first}:{last}")
        room -= size
    if words:
        yield ",".join(words)
