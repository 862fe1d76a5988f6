"""How strict this host is about a service."""

from dataclasses import replace

import msgspec

from nodeagent.model.service import Mode, Service
from nodeagent.model.snapshot import Snapshot

_NEXT: dict[Mode, Mode] = {"observe": "permissive", "permissive": "strict", "strict": "strict"}


def mode_of(snapshot: Snapshot, service: str) -> Mode:
    """The service's own mode on this host, else the host's."""
    known = snapshot.services.get(service)
    return (known.mode if known else None) or snapshot.mesh.mode


def next_mode(mode: Mode) -> Mode:
    """The next stricter one; strict stays strict."""
    return _NEXT[mode]


def under_mode(snapshot: Snapshot, mode: Mode, service: str = "") -> Snapshot:
    """The snapshot as it would be in another mode: of the host, or of one service."""
    if not service:
        return replace(snapshot, mesh=msgspec.structs.replace(snapshot.mesh, mode=mode))
    known = snapshot.services.get(service) or Service(service)
    changed = msgspec.structs.replace(known, mode=mode)
    return replace(snapshot, services={**snapshot.services, service: changed})
