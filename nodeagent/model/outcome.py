"""How a connection went: the form that every connection leaves behind, exactly one each."""

from typing import Literal

import msgspec

from nodeagent.errors import Reason, Side
from nodeagent.model.workload import How

Direction = Literal["outbound", "tunnel", "plaintext"]
"""Where it arrived: a local workload's call, a stream in a peer's tunnel, clear text from outside."""

Path = Literal["tunnel", "local", "direct", "none"]
"""How it went on: to a peer's agent, to an application of this host, in clear as without us, nowhere."""


class ConnectionRow(msgspec.Struct, kw_only=True):
    """One connection, open or closed. Owned by the worker that serves it; sent to control when it ends."""

    id: str
    """`b3-17`: the agent's start in letters, the worker, the connection. Never given twice on a host that keeps its state."""
    direction: Direction
    client: str
    original_dst: str
    opened_at: float
    """Unix seconds."""
    source: str = ""
    """Service that calls; empty: unidentified."""
    how: How = "unknown"
    unit: str = ""
    uid: int | msgspec.UnsetType = msgspec.UNSET
    """Left out where nobody asked."""
    destination: str = ""
    """Service that is called; empty: none is registered there."""
    mode: str = ""
    path: Path = "none"
    peer: str = ""
    """Host at the other end of the tunnel."""
    permit: str = ""
    """The intention that decided, or `default`."""
    is_read: bool = False
    """Whether its requests are read, and decided one by one."""
    upstream: str = ""
    """Address that was dialled."""
    generation: int = 0
    sent: int = 0
    """Bytes from the client, to the upstream unless it was refused."""
    received: int = 0
    """Bytes from the upstream to the client."""
    closed_at: float = 0.0
    """Unix seconds; 0 while it is open."""
    reason: Reason = Reason.OK
    side: Side = Side.NONE
    error: str = ""
    """One sentence: what happened and the likely cure; empty when nothing did."""
