"""Whose requests are given a way of their own, and whose go to the instance that was dialled."""

from nodeagent.decide.authorize import speaks_http
from nodeagent.model.snapshot import Snapshot


def is_routed(snapshot: Snapshot, source: str, destination: str) -> bool:
    """Whether requests of `source` to an instance of `destination` may go to others."""
    return not why_dialled(snapshot, source, destination)


def why_dialled(snapshot: Snapshot, source: str, destination: str) -> str:
    """Why they go to the very instance that was dialled; empty: they do not."""
    service = snapshot.services.get(destination)
    # 1) whose requests are not read
    if service is None or not speaks_http(snapshot, destination):
        return f"{destination} is no service of which requests are read"
    # 2) where nobody asked for it: databases and clusters have roles
    if not service.is_routed:
        return f"{destination} has no service-router, service-splitter or service-resolver, and no balance_dialled"
    # 3) who wants that instance: a cluster's members call each other, and a monitor looks at each
    if source == destination:
        return f"{destination} calls itself: its members mean each other"
    if source in snapshot.mesh.dial_instance:
        return f"{source} is one of traffic.dial_instance"
    return ""
