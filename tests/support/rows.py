"""Connection rows in a few words."""

from nodeagent.errors import Reason, Side
from nodeagent.model.outcome import ConnectionRow


def row(number: int = 1, **facts) -> ConnectionRow:
    """A connection from shop to web that ended well, but for `facts`."""
    usual = {
        "id": f"0-{number}", "direction": "outbound", "client": "10.77.0.1:40000", "original_dst": "10.77.0.2:80",
        "opened_at": 100.0, "closed_at": 100.5, "source": "shop", "destination": "web", "path": "tunnel",
        "sent": 10, "received": 20,
    }  # fmt: skip
    return ConnectionRow(**(usual | facts))


def denied(number: int = 1, **facts) -> ConnectionRow:
    """One that policy refused."""
    return row(number, path="none", reason=Reason.DENIED, side=Side.MESH, error="no intention", **facts)
