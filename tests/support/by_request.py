"""A mesh whose intentions speak of requests."""

from typing import Any

from msgspec.structs import replace

from nodeagent.catalog.compiler import compile_snapshot
from nodeagent.catalog.state import IntentionRow
from nodeagent.model.policy.http import HeaderMatch
from nodeagent.model.policy.intentions import Permission, PermissionMatch
from nodeagent.model.snapshot import Snapshot
from tests.support.mesh import config, state

ADMIN_NOT = (
    Permission(action="deny", http=PermissionMatch(path_prefix="/admin")),
    Permission(action="allow", http=PermissionMatch(path_prefix="/", methods=("GET", "HEAD"), header=(HeaderMatch(name="x-team", present=True),))),
)
"""Everything but /admin, of whoever names his team."""


def row_of(source: str, destination: str, *permissions: Permission) -> IntentionRow:
    """What the catalog says of the pair; without permissions ADMIN_NOT."""
    return IntentionRow(source, destination, "deny", permissions=permissions or ADMIN_NOT)


def by_request(pair: str, *intentions: str, protocol: str = "http", mode: str = "strict", **services: Any) -> Snapshot:
    """`mesh` with one more row, `shop -> web`, that has ADMIN_NOT, and its destination speaks this protocol."""
    source, _, destination = pair.split()
    row = row_of(source, destination)
    known = state(*intentions, **services)
    known = replace(known, intentions=(*known.intentions, row), protocols={destination: protocol})
    return compile_snapshot(known, config(mode=mode), trust_domain="test.consul", generation=1)
