"""Packet filter rules: ours against the plan, and everybody else's."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from nodeagent.diagnose.facts import Managers, Redirection, Rules
from nodeagent.probe.rulesets import manager_marks, read_nft, redirections_of
from nodeagent.probe.scope import Scope
from nodeagent.process.interception import read_settings
from nodeagent.process.privileges import check_may_see_network
from redirect import kernel
from redirect.backend import capturing_backends, installed_backends
from redirect.libnftables import STATELESS, TERSE, LibraryMissing, Nft
from redirect.plan import KEEPER, MAIN

_LEGACY = {"iptables-legacy-save": Path("/proc/net/ip_tables_names"), "ip6tables-legacy-save": Path("/proc/net/ip6_tables_names")}
_PROGRAM_S = 5.0
_WANTED_BY = Path("/etc/systemd/system/sysinit.target.wants/nftables.service")
_NFTABLES_CONF = Path("/etc/nftables.conf")
_UFW_CONF = Path("/etc/ufw/ufw.conf")


def rules(scope: Scope) -> Rules:
    """What is installed, against what the configuration asks for."""
    is_enabled = scope.config is None or scope.config.intercept.enabled
    before = _strays()
    is_compared = scope.config and is_enabled and not scope.is_pre
    drift = kernel.verify(read_settings(scope.settings)) if is_compared else ()
    twins = tuple(name for name in _strays() if name in before)  # one that is gone by now was a comparison's
    return Rules(is_enabled, installed_backends(), bool(capturing_backends()), drift, twins)


def redirections(_scope: Scope) -> tuple[Redirection, ...]:
    """Rules of others that send connections elsewhere."""
    return tuple(redirections_of(read_nft(_ruleset()), list(_legacy())))


def managers(_scope: Scope) -> Managers:
    """Who else changes rules here."""
    found = manager_marks(read_nft(_ruleset()), list(_legacy()))
    if re.search(r"^ENABLED=yes", _text(_UFW_CONF), re.MULTILINE):
        found.add("ufw")
    if _WANTED_BY.exists() and re.search(r"^\s*flush\s+ruleset", _text(_NFTABLES_CONF), re.MULTILINE):
        found.add("nftables.service")
    return Managers(tuple(sorted(found)))


def _strays() -> tuple[str, ...]:
    """Tables that bear our name, and are neither of ours."""
    names = re.findall(r"^table (\S+ \S+)", _ruleset(), re.MULTILINE)
    return tuple(name for name in names if name.split()[1].startswith(MAIN) and name not in (f"inet {MAIN}", f"inet {KEEPER}"))


def _ruleset() -> str:
    """Every table of nftables, iptables-nft's too; empty where there is no nftables."""
    check_may_see_network()
    try:
        with Nft() as nft:
            return nft.run("list ruleset", flags=STATELESS | TERSE)
    except LibraryMissing:
        return ""


def _legacy() -> Iterator[str]:
    """Every table of iptables-legacy; where nobody uses it, it is not even opened, for that would make its tables."""
    for program, tables in _LEGACY.items():
        if _text(tables).strip() and (path := shutil.which(program)):
            done = subprocess.run([path], capture_output=True, text=True, timeout=_PROGRAM_S, check=False)
            yield done.stdout


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
