"""Settings to rules: pure, and the order of the rules is their meaning."""

import ipaddress
from collections.abc import Iterable

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
    Ranges,
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
from redirect.settings import LOOPBACK_NETWORKS, NEVER_NETWORKS, NEVER_PORTS, Fail, Settings

MAIN, KEEPER = "nodeagent", "nodeagent_keeper"
MESH: dict[Family, str] = {4: "mesh4", 6: "mesh6"}
CATALOG: dict[Family, str] = {4: "catalog4", 6: "catalog6"}
LOCAL_PORTS, LOOPBACK_PORTS = "local_ports", "loopback_ports"
ALIVE, AGENTS, UNITS = "alive", "agents", "units"
# Where the fail mode of the host does not hold: endpoints, and ports of this host. Whoever fills them says for which mode.
EXCEPT: dict[Family, str] = {4: "except4", 6: "except6"}
EXCEPT_PORTS = "except_ports"
TOLD: dict[Fail, str] = {"open": "told_open", "closed": "told_closed"}
OPEN_CALLERS, BYPASSED = "open_callers", "bypassed"
FAMILIES: tuple[Family, Family] = (4, 6)
_DEAD = Beating(ALIVE, holds=False)
_ELSEWHERE = Translated()
_SCOPED = ("fe80::/10",)
ROOT = 0  # the supervisor: sockets that it opens for workers are root's to the kernel, whoever connects them
ALIVE_S = 5  # five beats of one second: one late beat refuses nobody, a dead agent is noticed at once

# Before the mangle chains of others (-150), so that they see our stamp and not a forged mark.
IDENT_HOOK = Hook("filter", "output", -151)
# After the stamp: what is captured has lost a forged mark by then and needs no other route.
FORGED_HOOK = Hook("route", "output", -150)
# Before every nat of iptables and of others (-100): the first mapping of a connection wins. The refusal comes before it.
CLOSED_HOOK = Hook("filter", "output", -102)
OUT_HOOK = Hook("nat", "output", -101)
# After all nat: what was not asked about there does not go around the agent.
AROUND_HOOK = Hook("filter", "output", -99)
PRE_HOOK = Hook("filter", "prerouting", -150)


def plan(settings: Settings) -> Ruleset:
    """The rules that capture what `settings` says."""
    return Ruleset(main=Table(MAIN, _sets(), _chains(settings)), keeper=_keeper())


def _sets() -> tuple[NamedSet, ...]:
    """What changes at run time. Everything fixed is written into the rules, where nobody can add to it."""
    return (
        NamedSet(MESH[4], "ipv4_addr"),
        NamedSet(MESH[6], "ipv6_addr"),
        NamedSet(CATALOG[4], "ipv4_addr"),
        NamedSet(CATALOG[6], "ipv6_addr"),
        NamedSet(LOCAL_PORTS, "inet_service"),
        NamedSet(LOOPBACK_PORTS, "inet_service"),
        NamedSet(ALIVE, "inet_proto", timeout_s=ALIVE_S),
        NamedSet(AGENTS, "cgroupsv2"),
        NamedSet(UNITS, "cgroupsv2", to_mark=True),
        NamedSet(EXCEPT[4], "ipv4_addr . inet_service"),
        NamedSet(EXCEPT[6], "ipv6_addr . inet_service"),
        NamedSet(EXCEPT_PORTS, "inet_service"),
        *(NamedSet(name, "inet_proto") for name in TOLD.values()),
        NamedSet(OPEN_CALLERS, "mark"),
        NamedSet(BYPASSED, "counter"),
    )


def _chains(settings: Settings) -> tuple[Chain, ...]:
    return (
        Chain("exempt", _exempt(settings)),
        Chain("never", _never(settings)),
        Chain("stamp", _stamp(settings)),
        Chain("ident", _ident(settings), IDENT_HOOK),
        Chain("forged", _forged(settings), FORGED_HOOK),
        Chain("refuse", _refuse(settings)),
        Chain("take", _take(settings)),
        Chain("closed", _closed(settings), CLOSED_HOOK),
        Chain("out", _out(settings), OUT_HOOK),
        *(() if _refuses_last(settings) else (Chain("around", _around(settings), AROUND_HOOK),)),
        Chain("pre", _pre(settings), PRE_HOOK),
    )


def _exempt(settings: Settings) -> tuple[Rule, ...]:
    """Who is not captured. Accepting ends the chain that jumped here."""
    users = OfUsers(tuple(sorted({ROOT, *settings.agent_uids})))
    return (
        Rule((Tcp(holds=False),), Accept()),
        Rule((Opening(holds=False),), Accept(), "what is open stays as it is"),
        *(
            Rule((users, InCgroup(level, AGENTS)), Accept(), "the agent: uid and cgroup", counted=True)
            for level in settings.cgroup_levels
        ),
    )


def _never(settings: Settings) -> tuple[Rule, ...]:
    """Where nobody is captured."""
    rules = [Rule((_never_ports(settings),), Accept(), "ssh, DNS, Consul, the agent itself, excluded ports")]
    for family in FAMILIES:
        loopback = (ToNetworks(family, _networks(LOOPBACK_NETWORKS, family)), ToPortSet(LOOPBACK_PORTS, holds=False))
        rules.append(Rule(loopback, Accept(), "loopback, but for services that are enforced there"))
        away = (Leaving(), ToNetworks(family, _networks(NEVER_NETWORKS, family)))
        rules.append(Rule(away, Accept(), "link-local, metadata"))
        if excluded := _networks(settings.exclude_cidrs, family):
            rules.append(Rule((ToNetworks(family, excluded),), Accept(), "excluded networks"))
        endpoints = tuple(sorted({(a, p) for a, p in settings.exclude_addresses if _family(a) == family}))
        if endpoints:
            rules.append(Rule((ToEndpoints(family, endpoints),), Accept(), "the catalog"))
        if settings.catalog_port:
            named = (ToAddressSet(family, CATALOG[family]), ToPorts(ranges_of([settings.catalog_port])))
            rules.append(Rule(named, Accept(), "the catalog, where its name leads"))
    rules.append(Rule((ToThisHost(), ToPortSet(LOCAL_PORTS, holds=False)), Accept(), "no service registered there"))
    return tuple(rules)


def _tunnels_out(settings: Settings) -> tuple[Rule, ...]:
    """Who may call the tunnel port of a mesh host: the agent, and root, who looks who is there (`nodeagent check`).

    An agent gives each host some places for handshakes, and any process could take those of its own host's agent. Refused and
    not redirected: what conntrack remembers of a redirected call would redirect the agent's, too, where it gets the same port.
    """
    port = ToPorts(((settings.tunnel_port, settings.tunnel_port),))
    users = OfUsers(tuple(sorted({ROOT, *settings.agent_uids})))
    reset = (Rule((port, ToAddressSet(f, MESH[f])), Reset(), "tunnels are for agents, and root, to open", counted=True) for f in FAMILIES)
    return (Rule((port, users), Accept(), "tunnels are for agents, and root, to open"), *reset)


def _captured(settings: Settings, action: Action, *, counted: bool = False) -> tuple[Rule, ...]:
    """`action` for every destination that is in the mesh. Only after `never` has let the others go."""
    rules = [Rule((ToThisHost(),), action, "a local caller of a local service", counted)]
    for family in FAMILIES:
        rules.append(Rule((ToAddressSet(family, MESH[family]),), action, "addresses from the catalog", counted))
        networks = _networks(settings.mesh_cidrs, family)
        if networks:
            rules.append(Rule((ToNetworks(family, networks),), action, "mesh networks from the settings", counted))
    return tuple(rules)


def _ident(settings: Settings) -> tuple[Rule, ...]:
    """Names the caller on its SYN.

    What follows a SYN carries no stamp either: under SYN cookies the accepted socket inherits the mark of that.
    """
    marked = Marked((settings.unit_marks,))
    return (
        Rule((marked, Opening(holds=False)), SetMark(0), "forged, or an answer of the agent to a stamped caller"),
        Rule((), Jump("exempt")),
        Rule((marked,), SetMark(0), "forged: only this chain stamps", counted=True),
        Rule((), Jump("never")),
        *_captured(settings, Goto("stamp")),
    )


def _forged(settings: Settings) -> tuple[Rule, ...]:
    """Whoever is not captured, not the agent, and still has the agent's mark.

    The mark leads to a table in which every address is this host's: local services could be reached under any
    address, around the rules. The hook is of kind `route`: with the mark gone the packet is routed once more.
    """
    mark = settings.return_path.mark
    return (
        Rule((), Jump("exempt")),
        Rule((Marked(((mark, mark),)),), SetMark(0), "forged: only the agent uses the return path", counted=True),
    )


def _stamp(settings: Settings) -> tuple[Rule, ...]:
    """The unit's mark, or none. Zero first: an application's own mark would be inherited by the agent's socket."""
    return (Rule((), SetMark(0)), *(Rule((), StampFrom(level, UNITS)) for level in settings.cgroup_levels))


def _closed(settings: Settings) -> tuple[Rule, ...]:
    """The dead-man switch: nobody beats, so new connections are refused at once, but for those that may bypass the agent."""
    return (
        Rule((), Jump("exempt")),
        *_tunnels_out(settings),
        Rule((), Jump("never")),
        Rule((Beating(ALIVE), *((_ELSEWHERE,) if _refuses_last(settings) else ())), Accept()),
        *_captured(settings, Goto("refuse")),
    )


def _out(settings: Settings) -> tuple[Rule, ...]:
    """Redirects what is not let by. The switch may fall between `closed` and this chain: each judges by itself, alike."""
    return (
        Rule((), Jump("exempt")),
        Rule((), Jump("never")),
        Rule((ToNetworks(6, _SCOPED),), Accept(), "bound to its device, which does not lead to us: refused"),
        *_captured(settings, Goto("take")),
    )


def _around(settings: Settings) -> tuple[Rule, ...]:
    """What should have been redirected and was not: nat is asked once for a connection, and not for what conntrack does not follow.

    It may take a SYN for one of a connection before it, which was not captured, as the agent's own are not. What somebody else's
    nat sends to a place in the mesh was dialled elsewhere, and is not captured.
    """
    return (
        Rule((), Jump("exempt")),
        Rule((_DEAD,), Accept(), "judged before"),
        Rule((_ELSEWHERE,), Accept(), "dialled elsewhere"),
        Rule((), Jump("never")),
        *_captured(settings, Reset(), counted=True),
    )


def _refuse(settings: Settings) -> tuple[Rule, ...]:
    return (*_judged(settings, Reset(), Accept()), Rule((), Reset(), counted=True))


def _take(settings: Settings) -> tuple[Rule, ...]:
    """What may not bypass a dead agent goes to it all the same: `closed` has refused it, or refuses it later (iptables)."""
    keep = Accept() if _refuses_last(settings) else RedirectTo(settings.outbound_port)
    last = (Rule((_DEAD,), keep),) if _refuses_last(settings) else ()
    return (
        *_judged(settings, keep, Bypass(BYPASSED)),
        *last,
        Rule((), RedirectTo(settings.outbound_port), counted=True),
    )


def _judged(settings: Settings, keep: Action, let: Action) -> tuple[Rule, ...]:
    """Who and what may bypass a dead agent (`let`), and the exceptions (`keep`); what no rule names may not."""
    told = Told(TOLD[settings.fail])
    endpoints: list[tuple[Condition, ...]] = [(ToEndpointSet(family, EXCEPT[family]),) for family in FAMILIES]
    here: tuple[Condition, ...] = (ToThisHost(), ToPortSet(EXCEPT_PORTS))
    excepted = (*endpoints, here)
    callers = _kept_callers(settings, keep)
    if settings.fail == "closed":  # a registration by another host opens no address of this one
        may = (*((ToThisHost(holds=False), *there) for there in endpoints), here)
        return (*callers, *(Rule((_DEAD, *where, told), let, "nobody beats: may bypass") for where in may))
    return (
        *callers,
        *(Rule((_DEAD, *where), keep, "nobody beats: never around the agent") for where in excepted),
        Rule((_DEAD, told), let, "nobody beats: bypass"),
    )


def _kept_callers(settings: Settings, keep: Action) -> tuple[Rule, ...]:
    if not settings.knows_callers:
        return ()
    if settings.backend == "iptables":
        return (Rule((_DEAD,), keep, "nobody beats: callers are not known here"),)
    users = (Rule((_DEAD, OfUsers(settings.closed_uids)), keep, "nobody beats: never these users"),) if settings.closed_uids else ()
    return (*users, Rule((_DEAD, NotMarkedFrom(OPEN_CALLERS)), keep, "nobody beats: not this caller, or nobody known"))


def _refuses_last(settings: Settings) -> bool:
    """In iptables nat comes before filter: what has not been redirected there is refused, whatever the reason."""
    return settings.backend == "iptables"


def _dead_inbound(settings: Settings) -> tuple[Rule, ...]:
    """What becomes of calls from other hosts while nobody beats."""
    excepted = ToPortSet(EXCEPT_PORTS, holds=settings.fail == "closed")
    may = (_DEAD, ToPortSet(LOCAL_PORTS), excepted)
    told = Told(TOLD[settings.fail])  # comes last: to nft 1.1 what follows it is no longer known to be tcp
    return (
        Rule((*may, Opening(), told), Bypass(BYPASSED), "nobody beats: bypass"),
        Rule((*may, told), Accept(), "and what follows it: under SYN cookies it opens the connection"),
        Rule((_DEAD, ToPortSet(LOCAL_PORTS), Opening()), Reset(), "nobody beats: refuse", counted=True),
    )


def _pre(settings: Settings) -> tuple[Rule, ...]:
    """Packets from other hosts. All of a connection's, not only its SYN, so that SYN cookies work.

    A connection that an application already has keeps its own socket: tproxy leaves it alone.
    """
    to_service = ToPortSet(LOCAL_PORTS)
    return (
        Rule((FromLoopback(),), Accept(), "local callers were met on the way out"),
        Rule((Tcp(holds=False),), Accept()),
        Rule((ToThisHost(holds=False),), Accept()),
        *_tunnel_guard(settings),
        Rule((_never_ports(settings),), Accept(), "ssh, DNS, Consul, the agent itself, excluded ports"),
        *_dead_inbound(settings),
        *(Rule((to_service, OfFamily(f)), TproxyTo(f, settings.inbound_port), counted=True) for f in FAMILIES),
        Rule((to_service, Opening()), Reset(), "no listener: tproxy just goes on", counted=True),
    )


def _tunnel_guard(settings: Settings) -> Iterable[Rule]:
    """Handshakes cost a millisecond of CPU each: only hosts of the mesh may ask for one. Where nobody beats, nobody would answer."""
    here = ToPorts(((settings.tunnel_port, settings.tunnel_port),))
    yield Rule((_DEAD, here, Opening()), Reset(), "nobody beats: no tunnel opens", counted=True)
    for family in FAMILIES:
        networks = _networks(settings.mesh_cidrs, family)
        static = (NotFromNetworks(family, networks),) if networks else ()
        yield Rule(
            (here, Opening(), NotFromAddressSet(family, MESH[family]), *static),
            Reset(), "tunnels come from hosts of the mesh", counted=True,
        )  # fmt: skip


def _keeper() -> Table:
    """Keeps redirected connections alive while the main table is away.

    Two halves, and either alone is not enough: rules that make conntrack follow packets, and an empty nat chain that
    keeps the address translation of known connections registered.
    """
    follow = (Rule((Established(),), Count()),)
    return Table(
        KEEPER,
        (),
        (
            Chain("follow_in", follow, Hook("filter", "input", 0)),
            Chain("follow_out", follow, Hook("filter", "output", 0)),
            Chain("translate", (), Hook("nat", "output", -90)),
        ),
    )


def _never_ports(settings: Settings) -> ToPorts:
    return ToPorts(ranges_of((*NEVER_PORTS, *settings.agent_ports, *settings.exclude_ports)))


def ranges_of(numbers: Iterable[int]) -> Ranges:
    """The numbers as sorted, disjoint (first, last)."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return tuple(ranges)


def _networks(texts: Iterable[str], family: Family) -> tuple[str, ...]:
    """Those of one family, overlaps merged: the kernel refuses overlapping ranges."""
    networks = [ipaddress.ip_network(text) for text in texts]
    if family == 4:
        return tuple(
            map(str, ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv4Network)))
        )
    return tuple(map(str, ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv6Network))))


def _family(address: str) -> Family:
    return 4 if ipaddress.ip_address(address).version == 4 else 6
