"""Routing: source checks and addresses."""

import errno
import socket
from pathlib import Path

from nodeagent.diagnose.facts import Addresses, ReversePath
from nodeagent.probe.scope import Scope

_CONF = Path("/proc/sys/net/ipv4/conf")


def reverse_path(_scope: Scope) -> tuple[ReversePath, ...]:
    """Each interface's check of sources; loopback has none."""
    everywhere, mark = _setting("all", "rp_filter"), _setting("all", "src_valid_mark")
    names = sorted(entry.name for entry in _CONF.iterdir() if entry.name not in ("all", "default", "lo"))
    return tuple(
        ReversePath(name, max(everywhere, _setting(name, "rp_filter")), bool(mark or _setting(name, "src_valid_mark")))
        for name in names
    )


def addresses(scope: Scope) -> Addresses | None:
    """The configured addresses that this host has not."""
    if scope.config is None:
        return None
    wanted = scope.config.host.addresses
    return Addresses(tuple(ip for ip in wanted if not _is_ours(ip)), len(wanted))


def _setting(interface: str, name: str) -> int:
    try:
        return int((_CONF / interface / name).read_text(encoding="ascii"))
    except FileNotFoundError:  # the interface is gone again
        return 0


def _is_ours(ip: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((ip, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True
