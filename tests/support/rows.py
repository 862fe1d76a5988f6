"""Connection rows in a few words."""

from nodeagent.errors import Reason, Side
from nodeagent.model.outcome import ConnectionRow, RequestRow


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


def request(number: int = 1, **facts) -> RequestRow:
    """A request of shop to web that was answered, but for `facts`."""
    usual = {
        "id": f"r-{number}", "connection": "0-1", "direction": "tunnel", "source": "shop", "destination": "web", "began_at": 100.0,
        "milliseconds": 1.5, "method": "GET", "path": "/a", "status": 200,
    }  # fmt: skip
    return RequestRow(**(usual | facts))


def forbidden(number: int = 1, **facts) -> RequestRow:
    """One that policy refused."""
    return request(number, status=403, reason=Reason.DENIED, side=Side.MESH, error="permission 0 of shop -> web", **facts)
