"""How strict this host is about a service."""

from nodeagent.model.service import Mode
from nodeagent.model.snapshot import Snapshot


def mode_of(snapshot: Snapshot, service: str) -> Mode:
    """The service's own mode on this host, else the host's."""
    known = snapshot.services.get(service)
    return (known.mode if known else None) or snapshot.mesh.mode
