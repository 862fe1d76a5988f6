"""Who may call whom: the one intention that decides a pair."""

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.errors import Denied
from nodeagent.model.intention import ANY, Intention
from nodeagent.model.names import is_service_name
from nodeagent.model.service import Protocol
from nodeagent.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Permit:
    """Proof that a pair may talk. Made by `authorize` only."""

    source: str
    destination: str
    by: str
    """The intention that said yes."""
    is_by_request: bool = False
    """Whether it says yes to some requests and no to others: nobody may carry them on unread."""


def authorize(snapshot: Snapshot, source: str, destination: str, *, is_read: bool = True) -> Permit:
    """The permit for `source` to reach `destination` under this snapshot.

    Exactly one intention decides: the one of highest precedence, and deny where two are equal. Without any: deny.
    is_read: as of `allowing_intention`.

    Raises:
        Denied: names the intention, or the default, that said no.
    Source: Consul, service intentions, precedence and match order.
    """
    if not is_service_name(source):
        raise Denied(f"{source or 'an unidentified workload'} -> {destination}: the caller is no service of the mesh")
    if destination not in snapshot.services:
        raise Denied(f"{source} -> {destination}: no service {destination} is known here; see: nodeagent services")
    decider = allowing_intention(snapshot, source, destination, is_read=is_read)
    return Permit(source, destination, str(decider), decider.is_by_request)


def allowing_intention(snapshot: Snapshot, source: str, destination: str, *, is_read: bool = True) -> Intention:
    """The intention that allows the pair, whether or not the catalog still knows its two services.

    One with permissions allows connections where their requests are read and decided one by one.
    is_read: whether an agent reads what is said on the connection, if it is HTTP/1.1.

    Raises:
        Denied: names the intention, or the default, that said no.
    """
    decider = deciding_intention(snapshot, source, destination)
    if decider is None:
        cure = f"allow it with: nodeagent intention allow {source} {destination}"
        raise Denied(f"no intention allows {source} -> {destination} (default deny); {cure}")
    if not admits(snapshot, decider, destination, is_read=is_read):
        cure = _why_unread(snapshot, destination, is_read=is_read) if decider.is_by_request else ""
        cure += f"change it with: nodeagent intention allow {source} {destination}"
        raise Denied(f"the intention {decider} denies {source} -> {destination}; {cure}")
    return decider


def admits(snapshot: Snapshot, decider: Intention, destination: str, *, is_read: bool = True) -> bool:
    """Whether connections pass that this intention decides; is_read: as of `allowing_intention`."""
    return decider.action == "allow" or (is_read and decider.is_by_request and speaks_http(snapshot, destination))


def speaks_http(snapshot: Snapshot, service: str) -> bool:
    """Whether requests of this service are read: HTTP/1.1. Of http2 and grpc, connections are decided."""
    return protocol_of(snapshot, service) == "http"


def protocol_of(snapshot: Snapshot, service: str) -> Protocol:
    """What a service speaks, as far as is known."""
    known = snapshot.services.get(service)
    return known.protocol if known else "tcp"


def _why_unread(snapshot: Snapshot, destination: str, *, is_read: bool) -> str:
    """Why an intention for requests denies: what goes before the cure."""
    if is_read:
        return f"{destination} speaks {protocol_of(snapshot, destination)}, and requests are read of services that speak http; "
    return f"no agent reads the requests on the way to {destination}; "


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


def _weight(row: Intention) -> tuple[int, bool, bool]:
    """Precedence first; at equal rank everything that is not an allow wins, and a plain deny before all."""
    return (row.precedence, row.action != "allow", not row.is_by_request)
