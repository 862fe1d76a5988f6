"""HTTP/1.1: both codecs say the same of the same bytes, however they are cut; and what we write is read as what was meant."""

from typing import cast

import msgspec

from nodeagent.model.message import CHUNKED, Headers, RequestHead, ResponseHead
from nodeagent.wire.http1 import render
from tests.fuzz.targets.wire import cut
from tests.support.http1 import CODECS, Event, Log, told_by_client, told_by_origin

_METHODS = (b"GET", b"HEAD", b"GET", b"CONNECT")


def http1_requests(data: bytes) -> bool:
    """A client's bytes are messages, or messages and a refusal; each message arrives as it was understood."""
    logs = [told_by_client(codec, pieces, ends=True) for codec in CODECS for pieces in ([data], cut(data))]
    _agree(logs)
    for head, body, trailers in _messages(logs[0].events):
        assert isinstance(head, RequestHead)
        written = render.request_head(head, head.headers, head.length, keep_alive=head.keep_alive) + _body(head.length, body, trailers)
        meant = msgspec.structs.replace(head, is_http10=head.is_http10 and not head.authority)  # the connection is ours, and so its version
        for codec in CODECS:
            assert [(meant, body, trailers)] == list(_messages(told_by_client(codec, [written]).events))
    return logs[0].ends > 0 and not logs[0].errors


def http1_answers(data: bytes) -> bool:
    """The same of an origin's bytes, to some questions."""
    logs = [told_by_origin(codec, pieces, _METHODS, may_switch=True, ends=True) for codec in CODECS for pieces in ([data], cut(data))]
    _agree(logs)
    for head, body, trailers in _messages(logs[0].events):
        assert isinstance(head, ResponseHead)
        written = render.response_head(head, head.headers, head.length, keep_alive=head.keep_alive) + _body(head.length, body, trailers)
        methods = [b"GET" if head.has_body or head.status in {204, 304} else b"HEAD"]
        for codec in CODECS:
            assert [(head, body, trailers)] == list(_messages(told_by_origin(codec, [written], methods, ends=True).events))
    return logs[0].ends > 0


def _agree(logs: list[Log]) -> None:
    first, *others = logs
    assert all(first.events == log.events for log in others), [log.events for log in logs]
    assert len(first.errors) <= 1
    assert not first.errors or first.events[-1][0] == "bad"
    assert all(str(log.why).isprintable() for log in logs if log.errors)


def _messages(events: list[Event]) -> list[tuple[object, bytes, Headers]]:
    """Those that are complete, without answers before the last."""
    found, body = [], b""
    head: object = None
    for event in events:
        match event[0]:
            case "head":
                head, body = event[1], b""
            case "body":
                body = cast("bytes", event[1])
            case "end":
                found.append((head, body, cast("Headers", event[1])))
    return found


def _body(length: int, body: bytes, trailers: Headers) -> bytes:
    if length != CHUNKED:
        return body
    return render.chunk(body) + render.last_chunk(trailers)
