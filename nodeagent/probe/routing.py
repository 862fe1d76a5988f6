"""Routing: source checks, addresses, systemd-networkd."""

import errno
import re
import socket
from collections.abc import Iterable
from pathlib import Path

from nodeagent.diagnose.facts import Addresses, Networkd, ReversePath
from nodeagent.probe.scope import Scope

_CONF = Path("/proc/sys/net/ipv4/conf")
_DIRECTORIES = ("/usr/lib/systemd", "/run/systemd", "/etc/systemd")  # the later one counts
_SETTINGS = ("ManageForeignRoutingPolicyRules", "ManageForeignRoutes")
_COMM = "systemd-network"  # as the kernel cuts it


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


def networkd(_scope: Scope) -> Networkd | None:
    """What systemd-networkd deletes; None: it does not run in this network namespace."""
    if not any(map(_is_networkd_here, Path("/proc").glob("[0-9]*"))):
        return None
    files = [path for top in _DIRECTORIES for path in (Path(top) / "networkd.conf", *sorted(Path(top).glob("networkd.conf.d/*.conf")))]
    return Networkd(deleting(path.read_text(encoding="utf-8", errors="replace") for path in files if path.exists()))


def deleting(texts: Iterable[str]) -> tuple[str, ...]:
    """The settings that let foreign rules and routes be deleted, from the texts of the files in their order."""
    said = dict.fromkeys(_SETTINGS, "yes")
    for text in texts:
        said |= re.findall(rf"^\s*({'|'.join(_SETTINGS)})\s*=\s*(\w+)", text, re.MULTILINE)
    return tuple(name for name, value in said.items() if value.lower() not in ("no", "false", "off", "0", "n", "f"))


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


def _is_networkd_here(process: Path) -> bool:
    try:
        is_named = (process / "comm").read_text(encoding="utf-8", errors="replace").strip() == _COMM
        return is_named and (process / "ns/net").readlink() == Path("/proc/self/ns/net").readlink()
    except PermissionError:  # it is networkd, and in which network only root sees
        raise
    except OSError:
        return False
