"""The kernel: features by trying them, tables and queues by their counters."""

import ipaddress
import platform
import re
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from nodeagent import limits
from nodeagent.config import parse_config
from nodeagent.diagnose.kernel_facts import (
    Backlog,
    Cgroups,
    Conntrack,
    Ephemeral,
    Expressions,
    Identification,
    Release,
)
from nodeagent.errors import ConfigError
from nodeagent.probe.scope import Scope
from nodeagent.process import preflight
from nodeagent.process.interception import read_settings
from nodeagent.process.privileges import check_may_see_network
from redirect.cgroup import read_mount
from redirect.errors import RedirectError
from redirect.libnftables import LibraryMissing, Nft

_SYS = Path("/proc/sys")
_PROC_NET = Path("/proc/net")
_NETSTAT = _PROC_NET / "netstat"
Ends = tuple[str, int, str, int]
"""Of a connection: address and port here, address and port there."""
_LOOK_S = 1.0  # between two looks at a counter
_TRIED = {
    "tproxy": "type filter hook prerouting priority -150; meta l4proto tcp tproxy ip to 127.0.0.1:15006",
    "socket": "type filter hook prerouting priority -150; socket transparent 1 accept",
    "cgroup": 'type filter hook output priority -150; socket cgroupv2 level 1 "/" accept',
    "nat": "type nat hook output priority -101; meta l4proto tcp redirect to :15001",
    "fib": "type filter hook output priority -150; fib daddr type local accept",
    "ct": "type filter hook output priority -150; ct state new accept",
    "reject": "type filter hook output priority -150; meta l4proto tcp reject with tcp reset",
}
"""The smallest chain for each expression that the rules are made of."""


_ANY_HOST = parse_config('[host]\nname = "a"\naddresses = ["192.0.2.1"]\n[catalog]\naddress = "http://127.0.0.1:1"', "a host without a file")


def release(_scope: Scope) -> Release:
    """Which kernel runs."""
    return parse_release(platform.release())


def expressions(scope: Scope) -> Expressions:
    """What nftables and the kernel refuse in a dry run."""
    check_may_see_network()
    try:
        with Nft() as nft:
            refused = tuple((name, why) for name, chain in _TRIED.items() if (why := _try_chain(nft, chain)))
    except LibraryMissing as error:
        refused = (("anything", str(error)),)
    return Expressions(refused, _backend(scope) if refused else "nft")


def identification(scope: Scope) -> Identification:
    """Whether callers can be named, by the agent's own test at start."""
    check_may_see_network()
    try:
        preflight.check_kernel(scope.config or _ANY_HOST)
    except ConfigError as error:
        return Identification(str(error))
    return Identification()


def cgroups(scope: Scope) -> Cgroups:
    """Where the cgroup v2 tree is."""
    root = scope.config.intercept.cgroup_root if scope.config else ""
    try:
        mount = read_mount()
    except RedirectError:
        return Cgroups("", root)
    return Cgroups(mount, root, is_root_there=(Path(mount) / root).is_dir())


def conntrack(_scope: Scope) -> Conntrack | None:
    """The connection table of this network; None: it is not in use."""
    table = _SYS / "net/netfilter"
    if not (table / "nf_conntrack_max").exists():
        return None
    return Conntrack(_number(table / "nf_conntrack_count"), _number(table / "nf_conntrack_max"))


def ephemeral(_scope: Scope) -> Ephemeral:
    """Which ports clients get, and how many of them are in use where most are."""
    first, last = (_SYS / "net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    reserved = (_SYS / "net/ipv4/ip_local_reserved_ports").read_text(encoding="ascii")
    used, to = most_used(client_ends(), int(first), int(last))
    return Ephemeral(int(first), int(last), parse_ranges(reserved), used, to)


def backlog(_scope: Scope) -> Backlog:
    """The limit of listening queues, and whether one overflows now."""
    before = overflows_in(_NETSTAT.read_text(encoding="ascii"))
    time.sleep(_LOOK_S)
    return Backlog(preflight.backlog_limit(), before, overflows_in(_NETSTAT.read_text(encoding="ascii")) - before)


def client_ends() -> Iterator[Ends]:
    """The ends of all connections in this network, those included that have just ended.

    As the kernel lists them: hexadecimal, in the machine's byte order.
    """
    for name in ("tcp", "tcp6"):
        path = _PROC_NET / name
        if path.exists():  # a kernel without IPv6 has one of them
            with path.open(encoding="ascii") as rows:
                yield from islice((parse_ends(row) for row in islice(rows, 1, None)), limits.CHECK_SOCKETS)


def parse_ends(row: str) -> Ends:
    """`  0: 0100007F:1F90 0200000A:0050 01 …` → ("0100007F", 8080, "0200000A", 80)."""
    (here, port), (there, to) = (cell.split(":") for cell in row.split()[1:3])
    return here, int(port, 16), there, int(to, 16)


def most_used(ends: Iterable[Ends], first: int, last: int) -> tuple[int, str]:
    """How many ports of the range go from one address to one other address and port, where most do; and which that is."""
    counts = Counter((here, there, to) for here, port, there, to in ends if to and first <= port <= last)
    ((_, there, to), count), = counts.most_common(1) or ((("", "", 0), 0),)
    return count, f"{address_of(there)}:{to}" if count else ""


def address_of(text: str) -> str:
    """`0100007F` → 127.0.0.1; 32 digits → IPv6, in brackets: words of four bytes in the machine's order."""
    words = struct.pack(f"={len(text) // 8}I", *(int(text[at : at + 8], 16) for at in range(0, len(text), 8)))
    ip = ipaddress.ip_address(words)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip) if mapped or ip.version == 4 else f"[{ip}]"


def parse_release(text: str) -> Release:
    """`6.1.0-18-amd64` → (6, 1)."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return Release(text, (int(match[1]), int(match[2])) if match else (0, 0))


def parse_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """`15000-15020,8080` → ((15000, 15020), (8080, 8080))."""
    cells = [cell.partition("-") for cell in text.strip().split(",") if cell]
    return tuple((int(first), int(last or first)) for first, _, last in cells)


def overflows_in(netstat: str) -> int:
    """TcpExtListenOverflows in the text of /proc/net/netstat: a line of names before each line of numbers."""
    lines = [line.split() for line in netstat.splitlines() if line.startswith("TcpExt:")]
    return int(dict(zip(*lines[:2], strict=True)).get("ListenOverflows", 0)) if len(lines) > 1 else 0


def _backend(scope: Scope) -> str:
    """What gets the rules where nftables does not take them all."""
    try:
        return read_settings(scope.settings).backend
    except (ConfigError, RedirectError):
        return "nft"


def _try_chain(nft: Nft, chain: str) -> str:
    kind, _, rule = chain.partition("; ")
    try:
        nft.check(f"table inet nodeagent_tried {{\nchain tried {{\n{kind};\n{rule}\n}}\n}}\n")
    except RedirectError as error:
        return str(error)
    return ""


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
