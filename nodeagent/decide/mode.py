"""How strict this host is about a service."""

from collections.abc import Mapping
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


def under_modes(snapshot: Snapshot, modes: Mapping[str, Mode | None]) -> Snapshot:
    """The snapshot as it would be in other modes, by service; `""`: the host. None, for a service: it goes with the host."""
    for service, mode in modes.items():
        snapshot = _under_mode(snapshot, mode, service)
    return snapshot


def _under_mode(snapshot: Snapshot, mode: Mode | None, service: str) -> Snapshot:
    if not service:
        return replace(snapshot, mesh=msgspec.structs.replace(snapshot.mesh, mode=mode or snapshot.mesh.mode))
    known = snapshot.services.get(service) or Service(service)
    changed = msgspec.structs.replace(known, mode=mode)
    return replace(snapshot, services={**snapshot.services, service: changed})
