"""service-intentions: an action or permissions for each source, and each source once."""

from collections.abc import Iterator

from nodeagent.catalog.policy.faults import Fault, below
from nodeagent.catalog.policy.requests import http_faults
from nodeagent.model.intention import ANY
from nodeagent.model.policy.intentions import JwtNeed, Permission, PermissionMatch, ServiceIntentions, Source

ELSEWHERE = ("Peer", "SamenessGroup")
"""What names sources of other clusters."""


def intentions_faults(entry: ServiceIntentions) -> Iterator[Fault]:
    """What is wrong with a service-intentions entry, beyond its shape."""
    if not entry.sources:
        yield Fault("Sources", "give at least one; to remove the intentions, delete the entry")
    if entry.jwt is not None:
        yield from _jwt_faults(entry.jwt, "JWT")
    seen: set[tuple[str, str, str]] = set()
    for number, source in enumerate(entry.sources):
        path = below("Sources", number)
        yield from source_faults(source, entry.name, path)
        who = (source.name, source.peer, source.sameness_group)
        if who in seen:
            yield Fault(path, f"the source {source.name} stands twice; exactly one row decides a pair")
        seen.add(who)


def source_faults(source: Source, destination: str, path: str) -> Iterator[Fault]:
    """What is wrong with one source."""
    if (source.action is None) == (not source.permissions):
        yield Fault(path, "give either Action or Permissions")
    if source.permissions and destination == ANY:
        yield Fault(below(path, "Permissions"), f"they need a destination by name, not {ANY}")
    if source.peer and source.sameness_group:
        yield Fault(path, "Peer and SamenessGroup are both set")
    for number, permission in enumerate(source.permissions):
        yield from _permission_faults(permission, below(below(path, "Permissions"), number))


def _permission_faults(permission: Permission, path: str) -> Iterator[Fault]:
    if permission.http is None and permission.jwt is None:
        yield Fault(path, "a permission needs HTTP or JWT")
    if permission.http is not None:
        if permission.http == PermissionMatch():
            yield Fault(below(path, "HTTP"), "is empty: give a path, a header or methods; PathPrefix / is every request")
        yield from http_faults(permission.http, below(path, "HTTP"))
    if permission.jwt is not None:
        yield from _jwt_faults(permission.jwt, below(path, "JWT"))


def _jwt_faults(need: JwtNeed, path: str) -> Iterator[Fault]:
    if not need.providers:
        yield Fault(below(path, "Providers"), "give at least one")
    seen: set[str] = set()
    for number, provider in enumerate(need.providers):
        at = below(below(path, "Providers"), number)
        if provider.name in seen:
            yield Fault(at, f"the provider {provider.name} stands twice")
        seen.add(provider.name)
        for place, claim in enumerate(provider.verify_claims):
            if not claim.path or not all(claim.path):
                yield Fault(below(below(at, "VerifyClaims"), place), "Path names a claim, and what is within it: ['perms', 'role']")
