"""Whether a connection that is open may stay so under a newer snapshot: deny means now."""

from typing import NamedTuple

from nodeagent.decide.authorize import allowing_intention
from nodeagent.decide.mode import mode_of
from nodeagent.decide.outbound import NO_PEER
from nodeagent.errors import Denied, PolicyChanged
from nodeagent.model.outcome import ConnectionRow, Direction, Path
from nodeagent.model.snapshot import Snapshot


class Held(NamedTuple):
    """What connections have in common that one answer holds open."""

    direction: Direction
    path: Path
    source: str
    """Empty: unidentified, or clear text from outside."""
    destination: str
    """Empty: no service is registered there."""
    is_here: bool
    """Whether the other end is on this machine."""
    is_bare: bool
    """Whether the machine of the other end had no agent when it was decided."""
    is_read: bool = False
    """Whether its requests are read, and decided one by one."""


def held_by(row: ConnectionRow, host: str) -> Held:
    """What this connection is held open by. host: this machine."""
    is_bare = row.permit.endswith(NO_PEER)
    return Held(row.direction, row.path, row.source, row.destination, row.peer == host, is_bare, row.is_read)


def may_differ(held: Held, old: Snapshot, new: Snapshot) -> bool:
    """Whether the two snapshots may differ about it. Quick: what did not change is the same object in both."""
    return (
        old.mesh is not new.mesh
        or old.wildcards is not new.wildcards
        or old.services.get(held.destination) is not new.services.get(held.destination)
    )


def ends_elsewhere(held: Held) -> bool:
    """Whether another host's agent enforces it and cuts it: this one only what that leaves open."""
    return held.direction == "outbound" and held.path == "tunnel"


def why_cut(snapshot: Snapshot, held: Held) -> PolicyChanged | None:
    """Why such a connection must end; None: it may stay.

    Only policy ends a connection: intentions and modes. A service, an instance or a host that comes to the catalog or leaves
    it ends none, for a catalog can be wrong about that. What was let through at a port without a service is not touched either.
    """
    mode = mode_of(snapshot, held.destination)
    if not held.destination or mode == "observe":
        return None
    # 1) Without a name there is no intention to ask for.
    if not held.source:
        return _nameless(held) if mode == "strict" else None
    # 2) In clear to another machine: strict wants a tunnel; outside strict, nobody asked where there was no agent to ask.
    if held.path == "direct" and not held.is_here:
        if mode == "strict" and not (held.is_bare and held.destination in snapshot.mesh.plaintext_ok):
            return PolicyChanged(f"it went to {held.destination} in clear, and {held.destination} is strict now")
        if mode != "strict" and held.is_bare:
            return None
    # 3) All else stands and falls with its intention.
    return _without_intention(snapshot, held)


def _without_intention(snapshot: Snapshot, held: Held) -> PolicyChanged | None:
    try:
        allowing_intention(snapshot, held.source, held.destination, is_read=held.is_read)
    except Denied as error:
        return PolicyChanged(f"a change of policy ended it: {error}")
    return None


def _nameless(held: Held) -> PolicyChanged:
    what = "it came in clear" if held.direction == "plaintext" else "nobody knows which workload opened it"
    return PolicyChanged(f"{what}, and {held.destination} is strict now")
