"""What the agent answers by itself."""

import pytest

from nodeagent import errors
from nodeagent.errors import AgentError
from nodeagent.proxy.http.answers import body_of, status_of
from nodeagent.wire.http1.events import BadMessage


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.Denied("x"), 403), (errors.AmbiguousPath("x"), 400), (BadMessage("x", status=431), 431), (errors.UpstreamRefused("x"), 503),
        (errors.UpstreamReset("x"), 502), (errors.PeerLost("x"), 502), (errors.UpstreamProtocol("x"), 502), (errors.UpstreamTimeout("x"), 504),
        (errors.RequestTimeout("x"), 408), (errors.NoRoute("x"), 503), (errors.NoInstance("x"), 503), (errors.NoSvid("x"), 503),
        (errors.LimitReached("x"), 503), (errors.Loop("x"), 508), (AgentError("x"), 500),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)  # fmt: skip
def test_each_reason_has_its_status(error: AgentError, status: int) -> None:
    """A client tells its own fault from a no, and both from what may be well in a moment."""
    assert status_of(error) == status


def test_the_body_names_the_request_and_nothing_else() -> None:
    assert body_of(b"r-1") == b"request r-1\n"
