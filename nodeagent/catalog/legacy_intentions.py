"""Intentions as Consul before 1.9 keeps them, each pair a row of its own; pure."""

import msgspec

from nodeagent import limits
from nodeagent.catalog.consul_rows import decode, is_name, rows_of, short, within
from nodeagent.catalog.permissions import needs_token, read_permissions
from nodeagent.catalog.state import DEFAULT_SCOPES, IntentionRow
from nodeagent.errors import CatalogError

LEGACY_INTENTIONS = "/v1/connect/intentions"
_MATCH = f"{LEGACY_INTENTIONS}/match"
_UNKNOWN_KIND = "invalid config entry kind"


class LegacyRow(msgspec.Struct, rename="pascal"):
    """A row of `/v1/connect/intentions`."""

    source_name: str
    destination_name: str
    action: str = ""
    id: str = msgspec.field(default="", name="ID")
    description: str = ""
    meta: dict[str, str] | None = None
    permissions: list[object] | None = None
    """Newer Consul shows those of its config entries in this answer, too; and the token that an entry asks of all its sources."""
    jwt: object = msgspec.field(default=None, name="JWT")
    source_ns: str = msgspec.field(default="", name="SourceNS")
    destination_ns: str = msgspec.field(default="", name="DestinationNS")
    source_partition: str = ""
    destination_partition: str = ""
    source_peer: str = ""
    source_sameness_group: str = ""

    @property
    def is_of_this_mesh(self) -> bool:
        """Whether both ends are in the one namespace and partition that a mesh here has, or in all."""
        scopes = (self.source_ns, self.destination_ns, self.source_partition, self.destination_partition)
        return all(scope in DEFAULT_SCOPES for scope in scopes) and not self.source_peer and not self.source_sameness_group


def is_unknown_kind(refusal: str) -> bool:
    """Whether a server has refused a config entry because it keeps none of that kind: Consul 1.8, of service-intentions.

    Its status is 500 for reads and 400 for writes, as for much else.
    """
    return _UNKNOWN_KIND in refusal


def parse_legacy_intentions(body: bytes) -> tuple[IntentionRow, ...]:
    """The rows in an answer of `/v1/connect/intentions`, by destination, source and action.

    Raises:
        CatalogError: not such an answer, longer than the limits, or an action that is neither allow nor deny.
    """
    return _parsed(rows_of(body, LegacyRow, LEGACY_INTENTIONS, limits.CATALOG_INTENTIONS))


def parse_match(body: bytes) -> tuple[IntentionRow, ...]:
    """The rows in an answer of `/v1/connect/intentions/match`, those of any destination included; in the same order.

    Raises:
        CatalogError: as `parse_legacy_intentions`.
    """
    by_name = decode(body, dict[str, list[LegacyRow] | None], _MATCH) or {}
    rows = [row for found in by_name.values() for row in found or ()]
    within(len(rows), limits.CATALOG_INTENTIONS, _MATCH)
    return _parsed(rows)


def _parsed(rows: list[LegacyRow]) -> tuple[IntentionRow, ...]:
    parsed = (_row(row, f"$[{n}]") for n, row in enumerate(rows) if row.is_of_this_mesh and is_name(row.source_name) and is_name(row.destination_name))
    return tuple(sorted(parsed, key=lambda row: (row.destination, row.source, row.action)))


def _row(row: LegacyRow, path: str) -> IntentionRow:
    destination = row.destination_name.lower()  # as Consul does where it is asked for one; of a source it does not
    if row.permissions:
        permissions, note = read_permissions(row.permissions, row.source_name, destination, has_jwt=row.jwt is not None)
        return IntentionRow(row.source_name, destination, "deny", note, permissions)
    if row.jwt is not None and row.action == "allow":
        return IntentionRow(row.source_name, destination, "deny", needs_token(row.source_name, destination))
    if row.action not in ("allow", "deny"):
        raise CatalogError(f"{LEGACY_INTENTIONS}: {path}.Action is {short(row.action)}: it must be allow or deny")
    return IntentionRow(row.source_name, destination, "allow" if row.action == "allow" else "deny")
