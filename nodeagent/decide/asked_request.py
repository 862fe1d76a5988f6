"""A request that somebody asks about, from its parts in words."""

import re
from collections.abc import Iterable

from nodeagent.model.message import CHUNKED, RequestHead

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(r"/[!\"$-~]*|\*")  # printable, without #


def asked_request(method: str, target: str, fields: Iterable[str]) -> RequestHead:
    """The head as an agent would have read it. fields: `x-canary: 1`.

    Raises:
        ValueError: no agent would read such a request; says why.
    """
    if not _TOKEN.fullmatch(method):
        raise ValueError(f"{method[:40]!r} is no method")
    if not _TARGET.fullmatch(target):
        raise ValueError(f"{target[:80]!r} is no path of a request: it begins with /, and other characters than ASCII's are escaped")
    head = RequestHead(method.encode(), target.encode(), b"", [])
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon or not _TOKEN.fullmatch(name):
            raise ValueError(f"{field[:80]!r} is no header; write it as name: value")
        if any(char in value for char in "\r\n\0"):
            raise ValueError(f"the value of {name[:40]} has more than one line")
        _put(head, name, value.strip())
    return head


def _put(head: RequestHead, name: str, value: str) -> None:
    """A field to its place: what is told apart from the others, as an agent tells it apart."""
    match name.lower():
        case "host":
            head.authority = value.encode()
        case "content-length" if value.isdecimal() and len(value) < 19:
            head.length = int(value)
        case "transfer-encoding" if value == "chunked":
            head.length = CHUNKED
        case "upgrade":
            head.upgrade = value.lower().encode()
        case "content-length" | "transfer-encoding":
            raise ValueError(f"{value[:40]!r} is no {name}")
        case _:
            head.headers.append((name.encode(), value.encode()))
