"""Who listens where, from /proc/net/tcp and tcp6."""

import ipaddress
import socket
import struct
from pathlib import Path

_LISTEN = "0A"

Listeners = frozenset[tuple[str, int]]


def read_listeners(proc: Path = Path("/proc/net")) -> Listeners:
    """Each (ip, port) on which somebody of this network namespace listens."""
    tables = (proc / name for name in ("tcp", "tcp6"))
    return frozenset(row for path in tables if path.exists() for row in parse_listeners(path.read_text(encoding="ascii")))


def parse_listeners(table: str) -> Listeners:
    """The listeners in the text of such a table; IPv4 in IPv6 clothes as IPv4."""
    rows = (line.split() for line in table.splitlines()[1:])
    return frozenset(_address(row[1]) for row in rows if len(row) > 3 and row[3] == _LISTEN)


def is_heard(listeners: Listeners, ip: str, port: int) -> bool:
    """Whether somebody answers there. `::` is taken for both families, which the table does not tell."""
    wildcards = ("::",) if ":" in ip else ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound
    return any((at, port) in listeners for at in (ip, *wildcards))


def heard_at(listeners: Listeners, port: int) -> tuple[str, ...]:
    """The addresses at that port."""
    return tuple(sorted(ip for ip, at in listeners if at == port))


def _address(cell: str) -> tuple[str, int]:
    """`0100007F:1F90` → (127.0.0.1, 8080): 32-bit words, each in the machine's byte order."""
    text, _, port = cell.partition(":")
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    ip = ipaddress.ip_address(socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw))
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip), int(port, 16)
