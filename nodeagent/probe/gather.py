"""All facts of a host, gathered side by side."""

from collections.abc import Callable
from functools import partial
from typing import Any

from nodeagent import limits
from nodeagent.diagnose.facts import Facts
from nodeagent.probe import catalog, clock, firewall, host, identity, kernel, peers, routing
from nodeagent.probe.bounded import Say, look
from nodeagent.probe.scope import Scope

PROBES: dict[str, Callable[[Scope], Any]] = {
    "agent": host.agent, "config": host.config, "programs": host.programs, "start_link": host.start_link, "users": host.users, "files": host.files,
    "room": host.room, "ports": host.ports, "memory": host.memory, "descriptors": host.descriptors,
    "release": kernel.release, "expressions": kernel.expressions, "identification": kernel.identification,
    "cgroups": kernel.cgroups, "conntrack": kernel.conntrack, "ephemeral": kernel.ephemeral, "backlog": kernel.backlog,
    "rules": firewall.rules, "redirections": firewall.redirections, "managers": firewall.managers,
    "reverse_path": routing.reverse_path, "addresses": routing.addresses,
    "link": catalog.link, "token": catalog.token, "enrolment": catalog.enrolment, "services": catalog.services, "health": catalog.health,
    "certificates": identity.certificates, "peers": peers.peers, "clock": catalog.clock, "time_service": clock.time_service,
}  # fmt: skip
"""By field of Facts."""


def gather(scope: Scope, say: Say = lambda _: None) -> Facts:
    """Every fact, or why it could not be learned; within CHECK_S."""
    found: dict[str, Any] = look({name: partial(probe, scope) for name, probe in PROBES.items()}, limits.CHECK_S, say)
    return Facts(**found)
