"""A relay's book-keeping: one outcome, recorded once, whoever ends it."""

import pytest

from nodeagent import limits
from nodeagent.errors import AgentError, Denied, Reason, Side
from nodeagent.model.outcome import ConnectionRow
from nodeagent.proxy.relay import Relay, refusals


class Book:
    """Remembers what was closed and what was reported."""

    def __init__(self) -> None:
        self.closed: list[ConnectionRow] = []
        self.reported: list[Exception] = []

    def now(self) -> float:
        return 5.0

    def close(self, relay: Relay) -> None:
        self.closed.append(relay.row)

    def report(self, error: Exception) -> None:
        self.reported.append(error)


class Wire:
    """An end that remembers, and closes itself when it is reset, as real ones do."""

    def __init__(self, received: int = 0) -> None:
        self.peer = self.relay = None
        self.received = received
        self.is_closed = self.was_lost = False
        self.said: list[str] = []

    def start(self) -> None:
        self.said.append("start")

    def refuse(self, error: AgentError) -> None:
        self.said.append(f"refuse {error.reason}")

    def reset(self) -> None:
        self.said.append("reset")
        self.relay.end_closed(self, "reset")


def relay_of(downstream: Wire) -> tuple[Relay, Book]:
    book = Book()
    row = ConnectionRow(id="1-1", direction="outbound", client="", original_dst="", opened_at=1.0)
    return Relay(row, downstream, book), book


def linked() -> tuple[Relay, Book, Wire, Wire]:
    down, up = Wire(7), Wire(11)
    relay, book = relay_of(down)
    relay.link(up)
    return relay, book, down, up


def test_linking_joins_and_starts_both_ends() -> None:
    """Each is the other's peer before either starts."""
    relay, _, down, up = linked()
    assert (down.peer, up.peer, down.said, up.said) == (up, down, ["start"], ["start"])
    assert relay.row.closed_at == 0


def test_two_clean_ends_are_recorded_once_as_ok() -> None:
    """With the bytes of both directions."""
    relay, book, down, up = linked()
    relay.end_closed(up, "")
    assert book.closed == []
    relay.end_closed(down, "")
    relay.end_closed(down, "again")
    (row,) = book.closed
    assert (row.reason, row.side, row.sent, row.received, row.closed_at) == (Reason.OK, Side.NONE, 7, 11, 5.0)


@pytest.mark.parametrize(
    ("who", "lost", "reason", "side"),
    [
        ("down", False, Reason.RESET_BY_DOWNSTREAM, Side.DOWNSTREAM),
        ("up", False, Reason.RESET_BY_UPSTREAM, Side.UPSTREAM),
        ("up", True, Reason.PEER_LOST, Side.UPSTREAM),
        ("down", True, Reason.PEER_LOST, Side.DOWNSTREAM),
    ],
)
def test_an_unclean_end_resets_the_other_and_is_blamed(who: str, *, lost: bool, reason: Reason, side: Side) -> None:
    """The row names who broke it, not who was reset because of it."""
    relay, book, down, up = linked()
    end, other = (down, up) if who == "down" else (up, down)
    relay.end_closed(end, "broken", lost=lost)
    (row,) = book.closed
    assert (row.reason, row.side, row.error) == (reason, side, "broken")
    assert other.said[-1] == "reset"


def test_an_upstream_that_comes_after_the_client_left_is_reset() -> None:
    """And the row is closed already."""
    down, up = Wire(), Wire()
    relay, book = relay_of(down)
    up.relay = relay
    relay.end_closed(down, "gone")
    relay.link(up)
    assert up.said == ["reset"]
    assert [row.reason for row in book.closed] == [Reason.RESET_BY_DOWNSTREAM]


@pytest.mark.parametrize(("was_lost", "reason"), [(False, Reason.RESET_BY_UPSTREAM), (True, Reason.PEER_LOST)])
def test_an_upstream_that_was_reset_before_it_was_joined_ends_the_connection(*, was_lost: bool, reason: Reason) -> None:
    """It had answered, and was gone before anybody listened: the client must not wait for ever."""
    down, up = Wire(), Wire()
    relay, book = relay_of(down)
    up.is_closed, up.was_lost = True, was_lost
    relay.link(up)
    (row,) = book.closed
    assert (row.reason, down.said) == (reason, ["reset"])


def test_a_refusal_is_told_and_recorded() -> None:
    """By the kind of end that the client has."""
    down = Wire()
    relay, book = relay_of(down)
    with refusals(relay, book):
        raise Denied("no intention allows shop -> web")
    (row,) = book.closed
    assert (row.reason, row.side, down.said) == (Reason.DENIED, Side.MESH, ["refuse denied"])


def test_an_unexpected_error_denies() -> None:
    """Fail closed: a defect refuses the connection and is reported with its traceback."""
    down = Wire()
    relay, book = relay_of(down)
    defect = KeyError("oops")
    with refusals(relay, book):
        raise defect
    (row,) = book.closed
    assert (row.reason, book.reported, down.said) == (Reason.INTERNAL, [defect], ["refuse internal"])


def test_no_sentence_is_longer_than_a_row_has_room_for() -> None:
    """A peer may have chosen the words."""
    relay, book = relay_of(Wire())
    relay.refuse(Denied("no" * limits.ERROR_CHARS))
    assert len(book.closed[0].error) == limits.ERROR_CHARS
