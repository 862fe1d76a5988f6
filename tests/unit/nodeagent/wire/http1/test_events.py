"""The word for what cannot be understood."""

from nodeagent.errors import Reason, Side
from nodeagent.model.message import CHUNKED, UNTIL_CLOSE
from nodeagent.wire.http1.events import INTERIM, SWITCHED, BadMessage


def test_a_bad_message_is_its_senders_fault() -> None:
    """Answered with 400, unless something else says more."""
    error = BadMessage("no host")
    assert (400, Reason.BAD_MESSAGE, Side.DOWNSTREAM) == (error.status, error.reason, error.side)
    assert 431 == BadMessage("too long", status=431).status


def test_lengths_that_are_none_differ() -> None:
    """From each other and from all lengths."""
    assert len({CHUNKED, UNTIL_CLOSE, SWITCHED, INTERIM}) == 4
    assert max(CHUNKED, UNTIL_CLOSE, SWITCHED, INTERIM) < 0
