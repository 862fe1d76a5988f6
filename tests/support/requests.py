"""Requests in a few words."""

from nodeagent.decide.match import RequestView
from nodeagent.decide.path import normalize
from nodeagent.model.message import RequestHead


def head(line: str = "GET /", *fields: str, **facts) -> RequestHead:
    """`POST /cart?x=1`, and fields such as `x-canary: 1`."""
    method, _, target = line.partition(" ")
    pairs = [tuple(part.strip().encode() for part in field.split(":", 1)) for field in fields]
    return RequestHead(method.encode(), (target or "/").encode(), b"web", pairs, **facts)


def view(line: str = "GET /", *fields: str, **facts) -> RequestView:
    """The same, with a normal target."""
    made = head(line, *fields, **facts)
    return RequestView(made, normalize(made.target))
