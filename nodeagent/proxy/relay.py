"""One connection from accept to close: two ends, one row, recorded exactly once."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from nodeagent import limits
from nodeagent.errors import AgentError, Reason, Side
from nodeagent.model.outcome import ConnectionRow
from nodeagent.proxy.end import End


class Book(Protocol):
    """Where relays are kept while they are open and recorded when they end."""

    def now(self) -> float:
        """Unix seconds."""

    def close(self, relay: "Relay") -> None:
        """The relay has ended: out of the open ones, into the records."""


class Relay:
    """Owned by the worker that accepted the connection. Ends report to it; it decides only how the connection ended."""

    def __init__(self, row: ConnectionRow, downstream: End, book: Book) -> None:
        self.row = row
        self.downstream = downstream
        self.upstream: End | None = None
        self._book = book
        self._open: list[End] = [downstream]
        self._is_settled = False
        downstream.relay = self

    @property
    def is_over(self) -> bool:
        """Whether it has ended and was recorded."""
        return bool(self.row.closed_at)

    @property
    def reason(self) -> Reason:
        """Why it ends, once that is settled."""
        return self.row.reason

    def link(self, upstream: End) -> None:
        """Joins both ends; payload flows from here on. An upstream that comes too late is reset."""
        upstream.relay = self
        if self.downstream not in self._open:
            upstream.reset()
            return
        self.upstream = upstream
        self._open.append(upstream)
        if upstream.is_closed:  # reset after it had answered, before anybody listened
            self.end_closed(upstream, "reset while it was being joined", lost=upstream.was_lost)
            return
        upstream.peer, self.downstream.peer = self.downstream, upstream
        upstream.start()
        self.downstream.start()

    @property
    def name(self) -> str:
        """Its row's id."""
        return self.row.id

    @property
    def side(self) -> Side:
        """Whose doing that was."""
        return self.row.side

    def let_go(self) -> None:
        """It has ended well, and a client that does not close is not waited for."""
        self.settle(Reason.OK, Side.NONE, "")
        self.cut()

    def refuse(self, error: AgentError) -> None:
        """Ends it before it began: the client is told as its kind of end can, the row says why."""
        self.settle(error.reason, error.side, str(error))
        if self.downstream in self._open:
            self._open.remove(self.downstream)
            self.downstream.refuse(error)
        self.cut()

    def end_by(self, error: AgentError) -> None:
        """Ends it although both ends would go on: it may not be open any more."""
        self.settle(error.reason, error.side, str(error))
        self.cut()

    def cut(self) -> None:
        """Resets whatever is still open and closes the row."""
        for end in list(self._open):
            end.reset()
        self._open.clear()
        self._finish()

    def settle(self, reason: Reason, side: Side, error: str) -> None:
        """Says how it ended; the first to say so is believed."""
        if not self._is_settled:
            self._is_settled = True
            self.row.reason, self.row.side, self.row.error = reason, side, error[: limits.ERROR_CHARS]

    def end_closed(self, end: End, error: str, *, lost: bool = False) -> None:
        """An end is closed; an unclean close resets the other end too."""
        if end not in self._open:
            return
        self._open.remove(end)
        if error:
            self.settle(*self._blame(end, lost=lost), error)
            self.cut()
        elif not self._open:
            self._finish()

    def count(self) -> None:
        """Brings the row's byte counts up to date."""
        self.row.sent = self.downstream.received
        self.row.received = self.upstream.received if self.upstream else 0

    def _blame(self, end: End, *, lost: bool) -> tuple[Reason, Side]:
        side = Side.DOWNSTREAM if end is self.downstream else Side.UPSTREAM
        if lost:
            return Reason.PEER_LOST, side
        return (Reason.RESET_BY_DOWNSTREAM if end is self.downstream else Reason.RESET_BY_UPSTREAM), side

    def _finish(self) -> None:
        if not self.is_over:
            self.count()
            self.row.closed_at = self._book.now()
            self._book.close(self)


@contextlib.contextmanager
def refusals(relay: Relay, defects: "Defects") -> Iterator[None]:
    """Turns whatever goes wrong inside into the row's outcome: the only broad catch of the data plane."""
    try:
        yield
    except AgentError as error:
        relay.refuse(error)
    except Exception as error:  # noqa: BLE001 - an unexpected error in a decision denies
        defects.report(error)
        relay.refuse(AgentError(f"a defect of this agent: {type(error).__name__}: {error}"))


class Defects(Protocol):
    """Where unexpected errors are reported, with their traceback."""

    def report(self, error: Exception) -> None:
        """Logs it, rate limited."""
