"""All judgements, in the order of the report."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

from nodeagent.diagnose import catalog, clock, firewall, host, identity, kernel, peers, routing
from nodeagent.diagnose.facts import Blind, Facts
from nodeagent.diagnose.finding import Finding, Group, Verdict

_FOR_ROOT = re.compile(r"\bpermission|\bpermitted|\broot\b|closed to uid", re.IGNORECASE)
_FROM_OUTSIDE = "something keeps it from root, as in a container (its capabilities, seccomp, AppArmor, SELinux): look on the host itself"

Judge = Callable[[Any], Iterable[Verdict]]

CHECKS: tuple[tuple[Group, str, str, Judge], ...] = (
    ("host", "agent", "agent", host.judge_agent),
    ("host", "config", "configuration", host.judge_config),
    ("host", "programs", "programs", host.judge_programs),
    ("host", "start_link", "version", host.judge_start_link),
    ("host", "users", "users", host.judge_users),
    ("host", "files", "files", host.judge_files),
    ("host", "room", "state", host.judge_room),
    ("host", "ports", "ports", host.judge_ports),
    ("host", "memory", "memory", host.judge_memory),
    ("host", "descriptors", "descriptors", host.judge_descriptors),
    ("kernel", "release", "version", kernel.judge_release),
    ("kernel", "expressions", "nftables", kernel.judge_expressions),
    ("kernel", "identification", "identification", kernel.judge_identification),
    ("kernel", "cgroups", "cgroups", kernel.judge_cgroups),
    ("kernel", "conntrack", "conntrack", kernel.judge_conntrack),
    ("kernel", "ephemeral", "client ports", kernel.judge_ephemeral),
    ("kernel", "backlog", "queues", kernel.judge_backlog),
    ("firewall", "rules", "rules", firewall.judge_rules),
    ("firewall", "redirections", "redirections", firewall.judge_redirections),
    ("firewall", "managers", "managers", firewall.judge_managers),
    ("routing", "reverse_path", "rp_filter", routing.judge_reverse_path),
    ("routing", "addresses", "addresses", routing.judge_addresses),
    ("catalog", "link", "link", catalog.judge_link),
    ("catalog", "token", "token", catalog.judge_token),
    ("catalog", "enrolment", "enrolment", catalog.judge_enrolment),
    ("catalog", "services", "services", catalog.judge_services),
    ("catalog", "health", "health", catalog.judge_health),
    ("identity", "certificates", "certificates", identity.judge_certificates),
    ("peers", "peers", "peers", peers.judge_peers),
    ("time", "clock", "clock", clock.judge_clock),
    ("time", "time_service", "time service", clock.judge_time_service),
)
"""Group, field of Facts, name in the report, judgement."""


def judge(facts: Facts, *, is_root: bool = False, again: str = "nodeagent check") -> tuple[Finding, ...]:
    """What is well, doubtful or wrong. What was not learned is doubtful; what does not concern this host is left out.

    is_root: whether it was root who looked. again: the command that looks, for whom root would see more.
    """
    return tuple(
        finding
        for group, checks in groupby(CHECKS, key=lambda check: check[0])
        for finding in _judge_group(group, checks, facts, again="" if is_root else again)
    )


def _judge_group(group: Group, checks: Iterable[tuple[Group, str, str, Judge]], facts: Facts, *, again: str) -> Iterator[Finding]:
    """again: empty: it was root who looked."""
    closed = []
    for _, field, name, decide in checks:
        fact = getattr(facts, field)
        if again and isinstance(fact, Blind) and _FOR_ROOT.search(fact.why):
            closed.append(name)
        else:
            yield from (Finding(group, name, *verdict) for verdict in _verdicts(fact, decide))
    if closed:
        yield Finding(group, ", ".join(closed), "warning", "only root can see this", f"run it as root: sudo {again}")


def _verdicts(fact: object, decide: Judge) -> Iterator[Verdict]:
    if isinstance(fact, Blind):
        yield Verdict("warning", f"could not be looked at: {fact.why}", _FROM_OUTSIDE if _FOR_ROOT.search(fact.why) else "")
    elif fact is not None:
        yield from decide(fact)
