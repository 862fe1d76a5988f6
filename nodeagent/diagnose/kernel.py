"""Judgements on the kernel: features, connection table, ports, queues."""

from collections.abc import Iterator

from nodeagent import limits
from nodeagent.diagnose.finding import Verdict, fail, warn, well
from nodeagent.diagnose.kernel_facts import Backlog, Cgroups, Conntrack, Ephemeral, Expressions, Identification, Release

_OLDEST = (5, 10)
_NEARLY_FULL, _FULL = 0.8, 0.95
_CONNTRACK_LOW = 65_536  # two entries for a redirected connection, and as many again that wait for their end
_MODULES = {
    "tproxy": "nft_tproxy", "socket": "nft_socket", "cgroup": "nft_socket", "nat": "nft_redir nft_chain_nat", "fib": "nft_fib_inet",
    "ct": "nft_ct", "reject": "nft_reject_inet",
}  # fmt: skip


def judge_release(release: Release) -> Iterator[Verdict]:
    """New enough."""
    if release.numbers < _OLDEST:
        yield fail(f"Linux {release.text} is too old", "run a kernel of 5.10 or newer")
    else:
        yield well(f"Linux {release.text}")


def judge_expressions(expressions: Expressions) -> Iterator[Verdict]:
    """What the rules are made of."""
    for name, why in expressions.refused:
        module = f"modprobe {_MODULES[name]}" if name in _MODULES else "apt install libnftables1; modprobe nf_tables"
        yield (warn if expressions.backend == "iptables" else fail)(f"nftables cannot do {name}: {why}", module)
    if not expressions.refused:
        yield well("nftables knows tproxy, socket, cgroup, nat, fib, ct and reject")


def judge_identification(found: Identification) -> Iterator[Verdict]:
    """Whether callers can be named."""
    if found.complaint:
        yield fail(found.complaint, "modprobe nf_conntrack_netlink tcp_diag inet_diag")
    else:
        yield well("callers can be named: fwmark_accept, transparent sockets, conntrack, sock_diag")


def judge_cgroups(cgroups: Cgroups) -> Iterator[Verdict]:
    """Without cgroup v2 no unit can be told."""
    if not cgroups.mount:
        yield fail("cgroup v2 is not mounted: units cannot be told apart", "boot with systemd.unified_cgroup_hierarchy=1")
    elif not cgroups.is_root_there:
        yield fail(f"intercept.cgroup_root {cgroups.root!r} is not below {cgroups.mount}", "take the setting out: it is for labs")
    else:
        yield well(f"cgroup v2 at {cgroups.mount}")


def judge_conntrack(table: Conntrack) -> Iterator[Verdict]:
    """A full table drops new connections of everybody, ssh included."""
    text = f"{table.count} of {table.most} entries of the connection table are in use"
    cure = f"sysctl -w net.netfilter.nf_conntrack_max={max(2 * table.most, 4 * _CONNTRACK_LOW)}"
    if table.count >= _FULL * table.most:
        yield fail(text, cure)
    elif table.count >= _NEARLY_FULL * table.most:
        yield warn(text, cure)
    elif table.most < _CONNTRACK_LOW:
        yield warn(f"the connection table has room for {table.most} entries only", cure)
    else:
        yield well(text)


def judge_ephemeral(ports: Ephemeral) -> Iterator[Verdict]:
    """Clients' ports must leave alone those from which the agent calls applications, and those where it listens; and be enough."""
    yield from _judge_use(ports)
    first, last = limits.UPSTREAM_PORTS
    text = f"clients get ports {ports.first} to {ports.last}"
    cure = f'sysctl -w net.ipv4.ip_local_port_range="{last + 1} {max(ports.last, 60999)}"'
    if ports.first > last or ports.last < first:
        yield well(text)
        return
    own = [p for p in _AGENT_PORTS if ports.first <= p <= ports.last and not any(a <= p <= b for a, b in ports.reserved)]
    if own:
        yield warn(f"{text}, the agent's own {', '.join(map(str, own))} among them: a client may hold one when the agent starts", cure)
    yield warn(f"{text}: the agent calls applications from {first} to {last}, and a call may meet a client's port", cure)


def _judge_use(ports: Ephemeral) -> Iterator[Verdict]:
    """Each connection from one address to one other, also one that has just ended, has a port of its own."""
    room = ports.last - ports.first + 1 - sum(max(0, min(b, ports.last) - max(a, ports.first) + 1) for a, b in ports.reserved)
    if ports.used < _NEARLY_FULL * room:
        return
    text = f"{ports.used} of the {room} ports that clients get are in use towards {ports.used_to}"
    judge = fail if ports.used >= _FULL * room else warn
    yield judge(f"{text}: without one a new connection there fails", "keep connections open, or add addresses to call; see: ss -tan")


_AGENT_PORTS = (limits.OUTBOUND_PORT, limits.INBOUND_PORT, limits.TUNNEL_PORT, limits.METRICS_PORT)


def judge_backlog(backlog: Backlog) -> Iterator[Verdict]:
    """Queues of listeners: who finds one full waits or is refused."""
    if backlog.grown:
        yield warn(
            f"a listener's queue was full {backlog.grown} times while we looked ({backlog.overflows} since boot)",
            "find it: ss -lnt (Recv-Q at Send-Q); give it more workers, or a longer queue",
        )
    if backlog.most < limits.ACCEPT_BACKLOG:
        yield warn(f"listening queues are cut to {backlog.most}", f"sysctl -w net.core.somaxconn={limits.ACCEPT_BACKLOG}")
    elif not backlog.grown:
        yield well(f"listening queues hold up to {backlog.most}; {backlog.overflows} times full since boot, not now")
