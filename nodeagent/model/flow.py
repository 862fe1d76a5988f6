"""Who calls whom, without when: what connections that go the same way have in common."""

import msgspec

from nodeagent.model.outcome import Direction


class Flow(msgspec.Struct, frozen=True):
    """Connections that every decision treats alike."""

    direction: Direction
    source: str
    """Service that calls; empty: unidentified, or clear text from outside."""
    destination: str
    """Service that is called."""
    address: str
    """`ip:port` that was dialled."""
    peer: str = ""
    """Host at the other end, as far as it was known."""
    unit: str = ""
    """Of an unidentified caller, where the kernel told."""
    uid: int | msgspec.UnsetType = msgspec.UNSET
    """As its unit."""
    client: str = ""
    """IP address from which clear text came."""


class FlowCount(msgspec.Struct):
    """How often and when, in Unix seconds. Owned by the book of flows."""

    times: int
    first_at: float
    last_at: float
