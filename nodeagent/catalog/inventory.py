"""Everything that is registered, in one answer: each machine with its services and checks, which become instances by service.

Consul makes it for its own pages, and embedded catalogs serve it, too. Of 10,000 services it is some ten megabytes, of which most
are as before: a machine whose bytes were the same the last time is not parsed again.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from nodeagent import limits
from nodeagent.catalog.consul_rows import CheckRow, HealthRow, ListedNode, decode, within
from nodeagent.catalog.state import APPLICATIONS, RESERVED_SERVICES, InstanceRow, in_order, instance_row
from nodeagent.errors import CatalogError
from nodeagent.model.names import is_service_name

INVENTORY = "/v1/internal/ui/nodes"


class Inventory(NamedTuple):
    """What is registered, but agents: their marks are followed by themselves."""

    instances: Mapping[str, tuple[InstanceRow, ...]]
    """By service; as an answer for that service alone would be parsed."""
    refused: Mapping[str, str]
    """Services of which a row cannot be taken, and why: of these nothing is known."""


class _Parsed(NamedTuple):
    """One registration."""

    service: str
    row: InstanceRow | None
    why: str = ""
    """Why there is no row."""


class InventoryReader:
    """Parses one answer after another. Owned by one watch."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[_Parsed, ...]] = {}
        """Of the last answer, by a digest of a machine's bytes."""

    def read(self, body: bytes) -> Inventory:
        """What an answer of INVENTORY says.

        Raises:
            CatalogError: not such an answer, or longer than the limits; a row of one service that is odd is that service's alone.
        """
        raws = decode(body, list[msgspec.Raw], INVENTORY) or []
        within(len(raws), limits.CATALOG_HOSTS, INVENTORY)
        known: dict[bytes, tuple[_Parsed, ...]] = {}
        before = self._known  # another thread may read the next answer, where nobody wants this one any more
        for raw in raws:
            digest = hashlib.blake2b(raw, digest_size=16).digest()
            known[digest] = before[digest] if digest in before else tuple(_of_machine(bytes(raw)))
        self._known = known
        return _by_service(parsed for some in known.values() for parsed in some)


def _by_service(parsed: Iterable[_Parsed]) -> Inventory:
    found: defaultdict[str, list[InstanceRow]] = defaultdict(list)
    refused: dict[str, str] = {}
    for service, row, why in parsed:
        if row is None:
            refused.setdefault(service, why)
        else:
            found[service].append(row)
    within(len(found), limits.CATALOG_SERVICES, INVENTORY)
    for name, rows in found.items():
        if len(rows) > limits.CATALOG_INSTANCES:
            refused[name] = f"{INVENTORY}: {name} has {len(rows)} instances; at most {limits.CATALOG_INSTANCES} are taken"
    return Inventory({name: in_order(rows) for name, rows in found.items() if name not in refused}, refused)


def _of_machine(raw: bytes) -> Iterator[_Parsed]:
    """The applications that are registered on one machine; none of a peer's."""
    node = decode(raw, ListedNode, INVENTORY)
    if node is None or node.peer_name:
        return
    checks = _checks_of(node)
    for service in node.services or ():
        name = service.service.lower()  # as Consul does where it is asked for one
        if service.kind in APPLICATIONS and not service.peer_name and _is_followed(name):
            own = [*checks[""], *checks.get(service.id.lower(), ())] if service.id else checks[""]
            try:
                yield _Parsed(name, instance_row(HealthRow(node, service, own), node.node, INVENTORY))
            except CatalogError as error:
                yield _Parsed(name, None, str(error))


def _checks_of(node: ListedNode) -> dict[str, list[CheckRow]]:
    """By the service's id, whose letters may be large or small; empty: they are the machine's."""
    found: dict[str, list[CheckRow]] = {"": []}
    for check in node.checks or ():
        found.setdefault(check.service_id.lower(), []).append(check)
    return found


def _is_followed(name: str) -> bool:
    return is_service_name(name) and name not in RESERVED_SERVICES
