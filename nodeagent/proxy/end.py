"""What an end of a relayed connection is to its peer and to its relay, whatever is behind it."""

from typing import Protocol

from nodeagent.errors import AgentError, Reason, Side


class End(Protocol):
    """One end, as its peer and its relay see it."""

    peer: "End | None"
    relay: "Watcher | None"
    received: int
    """Bytes that came out of this end."""
    is_closed: bool
    """Nothing comes or goes here any more."""

    @property
    def was_lost(self) -> bool:
        """Whether it closed because the tunnel around it was lost."""

    def start(self) -> None:
        """The peer is there: payload flows."""

    def refuse(self, error: AgentError) -> None:
        """Ends it before it was linked, and says why as far as this kind of end can."""

    def send(self, data: bytes) -> None:
        """Delivers payload."""

    def finish(self) -> None:
        """Half-closes after what was sent."""

    def reset(self) -> None:
        """Ends both directions at once; the other side sees a reset."""

    def pause(self) -> None:
        """Stops taking payload in."""

    def resume(self) -> None:
        """Goes on taking payload in."""


class Watcher(Protocol):
    """What an end reports to: its relay."""

    @property
    def reason(self) -> Reason:
        """Why it ends, once that is settled."""

    @property
    def name(self) -> str:
        """Its row's id."""

    @property
    def side(self) -> Side:
        """And whose doing that was."""

    def let_go(self) -> None:
        """It has ended well, whether or not the other end closes."""

    def end_by(self, error: AgentError) -> None:
        """An agent ends it, for this reason."""

    def end_closed(self, end: End, error: str, *, lost: bool = False) -> None:
        """Nothing more comes or goes here; `error` is empty after a clean end."""
