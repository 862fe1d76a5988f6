"""A request that somebody asks about."""

import pytest

from nodeagent.decide.asked_request import asked_request
from nodeagent.model.message import CHUNKED, RequestHead


def test_it_is_as_an_agent_would_have_read_it() -> None:
    """Fields in their order, and those that are told apart in their places."""
    head = asked_request("post", "/a?b=%20", ["X-A: 1 ", "x-a:2", "Host: web", "Content-Length: 5", "Upgrade: WebSocket", "x-empty:"])
    fields = [(b"X-A", b"1"), (b"x-a", b"2"), (b"x-empty", b"")]
    assert RequestHead(b"post", b"/a?b=%20", b"web", fields, length=5, upgrade=b"websocket") == head
    assert CHUNKED == asked_request("GET", "*", ["transfer-encoding: chunked"]).length


@pytest.mark.parametrize(
    ("method", "target", "field", "says"),
    [
        ("", "/", "a: 1", "no method"),
        ("A B", "/", "a: 1", "no method"),
        ("GET", "", "a: 1", "no path"),
        ("GET", "a", "a: 1", "no path"),
        ("GET", "/a b", "a: 1", "no path"),
        ("GET", "/#a", "a: 1", "no path"),
        ("GET", "/é", "a: 1", "no path"),
        ("GET", "http://web/", "a: 1", "no path"),
        ("GET", "/", "a", "no header"),
        ("GET", "/", "a b: 1", "no header"),
        ("GET", "/", ": 1", "no header"),
        ("GET", "/", "a: 1\nb: 2", "more than one line"),
        ("GET", "/", "content-length: +1", "no content-length"),
        ("GET", "/", "transfer-encoding: gzip", "no transfer-encoding"),
    ],
)
def test_what_no_agent_would_read_is_refused(method: str, target: str, field: str, says: str) -> None:
    """With what is wrong."""
    with pytest.raises(ValueError, match=says):
        asked_request(method, target, [field])
