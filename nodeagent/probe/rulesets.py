"""Rule sets as they are listed → chains, and what in them redirects. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nodeagent.diagnose.facts import Redirection
from redirect.plan import KEEPER, MAIN

_REDIRECTS = re.compile(
    r"(?<!\S)(?<!type )(?<!!= )(?<!jump )(?<!goto )redirect(?= to | (?:fully-)?random| persistent|\s*$)|\btproxy (?:ip6? )?to "
)
"""The statement. An ICMP type (`redirect`, `nd-redirect`) and a chain may have that name, too."""
_XT_REDIRECTS = re.compile(r'xt target "?(REDIRECT|TPROXY)')
_REMARK = re.compile(r'(?:\bcomment )?"[^"]*"')
_LEGACY_REDIRECTS = re.compile(r"-A (\S+) (.*-j (?:REDIRECT|TPROXY)\b.*)")
_LEGACY_PRIORITY = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_HOOKS = {"PREROUTING": "prerouting", "OUTPUT": "output"}
_OURS = re.compile(rf"inet ({MAIN}|{KEEPER})(_|$)")
_OWN_LEGACY = re.compile(r"^nodeagent", re.IGNORECASE)
_MESHES = {"Istio": "ISTIO_", "Consul": "CONSUL_", "Kuma": "KUMA_", "Linkerd": "PROXY_INIT_", "Cilium": "CILIUM_"}
_MANAGERS = {
    "firewalld": re.compile(r"firewalld$|^(INPUT|FORWARD_IN)_ZONES$"), "docker": re.compile(r"^DOCKER$"), "ufw": re.compile(r"^ufw6?-before-"),
}  # fmt: skip
_RULE_CHARS = 120


@dataclass(slots=True)
class NftChain:
    """One chain. Owned by `read_nft` until it is done."""

    table: str
    name: str
    hook: str = ""
    priority: int = 0
    rules: list[str] = field(default_factory=list)


def read_nft(text: str) -> list[NftChain]:
    """The chains in what `nft list ruleset` printed."""
    chains: list[NftChain] = []
    table, depth = "", 0
    for line in map(str.strip, text.splitlines()):
        if match := re.fullmatch(r"table (\S+ \S+) \{.*", line):
            table, depth = match[1], 1
        elif match := re.fullmatch(r"chain (\S+) \{.*", line):
            chains.append(NftChain(table, match[1]))
            depth = 2
        elif line == "}":
            depth -= 1
        elif depth == 2 and chains:
            _take_line(chains[-1], line)
    return chains


def redirections_of(chains: Sequence[NftChain], legacy: Sequence[str]) -> Iterator[Redirection]:
    """Every rule of others that redirects."""
    for chain in chains:
        for rule in chain.rules if not _OURS.match(chain.table) else ():
            if _redirects(rule):
                hook, priority = _base_of(chain, chains)
                yield Redirection(f"{chain.table} {chain.name}", rule[:_RULE_CHARS], hook, priority, _mesh_of(chain.name))
    for text in legacy:
        yield from _legacy_redirections(text)


def manager_marks(chains: Sequence[NftChain], legacy: Sequence[str]) -> set[str]:
    """Who has left chains, or a table, that are known to be theirs."""
    names = {name for chain in chains for name in (chain.name, chain.table)}
    names |= {match for text in legacy for match in re.findall(r"^:(\S+)", text, re.MULTILINE)}
    return {manager for manager, mark in _MANAGERS.items() if any(mark.search(name) for name in names)}


def parse_priority(text: str) -> int:
    """`dstnat`, `-101`, `mangle - 5`; 0 for what has no meaning here."""
    match = re.match(r"(-?\w+)(?: ([+-]) (\d+))?", text)
    if not match:
        return 0
    base = int(match[1]) if match[1].lstrip("-").isdecimal() else _PRIORITIES.get(match[1], 0)
    return base + (int(match[3]) if match[2] == "+" else -int(match[3]) if match[2] else 0)


def _take_line(chain: NftChain, line: str) -> None:
    if match := re.match(r"type \w+ hook (\w+)(?: device \S+)? priority ([^;]+);", line):
        chain.hook, chain.priority = match[1], parse_priority(match[2])
    elif line:
        chain.rules.append(line)


def _base_of(chain: NftChain, chains: Sequence[NftChain]) -> tuple[str, int]:
    """Hook and priority of the base chain from which packets come here, through however many jumps."""
    todo, seen = [chain], {chain.name}
    while todo:
        current = todo.pop()
        if current.hook:
            return current.hook, current.priority
        jump = re.compile(rf"\b(?:jump|goto) {re.escape(current.name)}(?:\s|,|$)")
        callers = [c for c in chains if c.table == chain.table and c.name not in seen and any(jump.search(r) for r in c.rules)]
        seen |= {caller.name for caller in callers}
        todo += callers
    return "", 0


def _redirects(rule: str) -> bool:
    """Whether it does, and not merely says so in a name, a comment or a log's prefix."""
    return bool(_XT_REDIRECTS.search(rule) or _REDIRECTS.search(_REMARK.sub("", rule)))


def _legacy_redirections(text: str) -> Iterator[Redirection]:
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif (match := _LEGACY_REDIRECTS.match(line)) and not _OWN_LEGACY.match(match[1]):
            place, hook = f"iptables {table} {match[1]}", _HOOKS.get(match[1], "")
            yield Redirection(place, match[2][:_RULE_CHARS], hook, _LEGACY_PRIORITY.get(table, 0), _mesh_of(match[1]))


def _mesh_of(chain: str) -> str:
    return next((mesh for mesh, prefix in _MESHES.items() if chain.startswith(prefix)), "")
