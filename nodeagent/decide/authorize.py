"""Who may call whom: the one intention that decides a pair."""

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.errors import Denied
from nodeagent.model.intention import ANY, Intention
from nodeagent.model.service import is_service_name
from nodeagent.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Permit:
    """Proof that a pair may talk. Made by `authorize` only."""

    source: str
    destination: str
    by: str
    """The intention that said yes."""


def authorize(snapshot: Snapshot, source: str, destination: str) -> Permit:
    """The permit for `source` to reach `destination` under this snapshot.

    Exactly one intention decides: the one of highest precedence, and deny where two are equal. Without any: deny.

    Raises:
        Denied: names the intention, or the default, that said no.
    Source: Consul, service intentions, precedence and match order.
    """
    if not is_service_name(source):
        raise Denied(f"{source or 'an unidentified workload'} -> {destination}: the caller is no service of the mesh")
    if destination not in snapshot.services:
        raise Denied(f"{source} -> {destination}: no service {destination} is known here; see: nodeagent services")
    return Permit(source, destination, str(allowing_intention(snapshot, source, destination)))


def allowing_intention(snapshot: Snapshot, source: str, destination: str) -> Intention:
    """The intention that allows the pair, whether or not the catalog still knows its two services.

    Raises:
        Denied: names the intention, or the default, that said no.
    """
    decider = deciding_intention(snapshot, source, destination)
    if decider is None:
        cure = f"allow it with: nodeagent intention allow {source} {destination}"
        raise Denied(f"no intention allows {source} -> {destination} (default deny); {cure}")
    if decider.action != "allow":
        cure = f"change it with: nodeagent intention allow {source} {destination}"
        raise Denied(f"the intention {decider} denies {source} -> {destination}; {cure}")
    return decider


def deciding_intention(snapshot: Snapshot, source: str, destination: str) -> Intention | None:
    """The intention that decides the pair; None where there is none and the default (deny) does."""
    return max(considered_intentions(snapshot, source, destination), key=_weight, default=None)


def considered_intentions(snapshot: Snapshot, source: str, destination: str) -> Iterator[Intention]:
    """Those that speak of the pair."""
    service = snapshot.services.get(destination)
    rows = (*(service.intentions if service else ()), *snapshot.wildcards)
    return (row for row in rows if _speaks_of(row, source, destination))


def _speaks_of(row: Intention, source: str, destination: str) -> bool:
    return row.source in (source, ANY) and row.destination in (destination, ANY)


def _weight(row: Intention) -> tuple[int, bool]:
    """Precedence first; at equal rank everything that is not an allow wins."""
    return (row.precedence, row.action != "allow")
