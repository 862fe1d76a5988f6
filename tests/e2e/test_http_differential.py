"""HTTP/1.1 as nginx, HAProxy and Envoy read it: what we write is counted the same by each, and we are never the laxest.

Requests reach them as clients' bytes, answers as an origin's.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.model.message import CHUNKED, Headers, RequestHead, ResponseHead
from nodeagent.wire.http1 import render
from tests.e2e.support.http_peers import LAST_SEEN, Peer, Seen, peers
from tests.support.http1 import told_by_client, told_by_origin

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
REQUESTS, ANSWERS = ([path.read_bytes() for path in sorted((CORPUS / name).glob("*"))] for name in ("http1_requests", "http1_answers"))
SPOILED = 1500
PARTS = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b";a", b"0\r\n\r\n", b"5", b"+5", b"0x5", b", ", b"_", b"-", b"\x0b", b"\xff", b"#",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:\tChunked\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"Connection: close\r\n", b"Connection: Content-Length\r\n", b"Host: b\r\n", b"Expect: 100-continue\r\n", b"GET /b HTTP/1.1\r\nHost: b\r\n\r\n",
]  # fmt: skip
ORDINARY = {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS"}
Message = tuple[RequestHead, bytes, Headers]


@pytest.fixture(scope="module")
def others() -> Iterator[dict[str, Peer]]:
    """The peers, for all tests of this file."""
    with peers() as found:
        yield found


def inputs(samples: list[bytes]) -> Iterator[bytes]:
    """The samples, and what becomes of it where a part is put in, taken out, or doubled: the same in each run."""
    yield from samples
    chance = random.Random(6)
    for _ in range(SPOILED):
        data = chance.choice(samples)
        for _ in range(chance.randint(1, 2)):
            at = chance.randrange(len(data) + 1)
            end = at + chance.choice((0, 0, 0, 1, 1, 2))
            data = data[:at] + chance.choice([*PARTS, b"", data[at:end] * 2]) + data[end:]
        yield data


def understood(data: bytes) -> list[Message]:
    """The complete requests in these bytes, as we see them."""
    found: list[Message] = []
    head, body = RequestHead(b"", b"", b"", []), b""
    for kind, value in told_by_client("httptools", [data]).events:
        match kind:
            case "head":
                head, body = value, b""
            case "body":
                body = value
            case "end":
                found.append((head, body, value))
    return found


def answered(method: bytes, data: bytes) -> tuple[ResponseHead, bytes, Headers] | None:
    """The first answer to `method` in what an origin says before it closes; None: it is none."""
    log = told_by_origin("httptools", [data], [method], ends=True)
    events = [event for event in log.events if event[0] != "head" or event[1].status >= 200]
    if not log.ends:
        return None
    bodies = [value for kind, value in events if kind == "body"]
    return events[0][1], b"".join(bodies), next(value for kind, value in events if kind == "end")


def written(message: Message) -> bytes:
    head, body, trailers = message
    framed = render.chunk(body) + render.last_chunk(trailers) if head.length == CHUNKED else body
    return render.request_head(head, head.headers, head.length) + framed


def is_ordinary(head: RequestHead) -> bool:
    """Whether each peer has to pass it on: a method that it knows, a path, no other protocol, no port it might not like."""
    return head.method in ORDINARY and head.target.startswith(b"/") and not head.upgrade and head.authority.isalnum()


def seen_as(message: Message) -> Seen:
    return message[0].method, message[0].target, message[1]


def test_what_we_write_is_counted_the_same_by_all(others: dict[str, Peer]) -> None:
    """Each peer sees this one request and the next behind it, or refuses; what is ordinary is refused by none."""
    messages = {written(message): message for data in inputs(REQUESTS) for message in understood(data)}
    refused = dict.fromkeys(others, 0)
    for data, message in messages.items():
        for name, peer in others.items():
            seen = peer.passed_on(data)
            if seen == [seen_as(message), LAST_SEEN]:
                continue
            assert seen in ([], [seen_as(message)], [LAST_SEEN]), (name, data)  # refused, or answered by the peer itself
            assert not is_ordinary(message[0]), (name, data, seen)
            refused[name] += 1
    print(f"{len(messages)} requests; refused: {refused}")
    assert len(messages) > 100
    assert max(refused.values()) < len(messages) / 4


def test_we_are_never_the_laxest(others: dict[str, Peer]) -> None:
    """Whatever we take of a client's bytes, one of the peers at least takes, too, and as the same requests."""
    tried = 0
    for data in sorted(set(inputs(REQUESTS))):
        ours = [seen_as(message) for message in understood(data)]
        if ours:
            tried += 1
            assert any(peer.passed_on(data)[: len(ours)] == ours for peer in others.values()), (data, ours)
    print(f"{tried} inputs")
    assert tried > 100


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_answers_that_we_write_are_counted_the_same_by_all(others: dict[str, Peer], method: bytes) -> None:
    """Each peer passes back this status and this body, or refuses the answer; none sees another one."""
    answers = {said: answer for data in inputs(ANSWERS) if (answer := answered(method, data)) and (said := written_answer(*answer))}
    refused = dict.fromkeys(others, 0)
    for data, (head, body, _) in answers.items():
        for name, peer in others.items():
            got = peer.passed_back(method, data)
            assert got in ((head.status, body), None), (name, data, got)
            refused[name] += got is None and head.status < 500
    print(f"{len(answers)} answers to {method.decode()}; refused: {refused}")
    assert len(answers) > 30
    assert max(refused.values()) < len(answers) / 4


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_we_are_never_the_laxest_about_answers(others: dict[str, Peer], method: bytes) -> None:
    """Whatever we take of an origin's bytes, one of the peers at least takes, too, and as the same answer."""
    tried = 0
    for data in sorted(set(inputs(ANSWERS))):
        answer = answered(method, data)
        if answer and answer[0].status < 500:
            tried += 1
            ours = answer[0].status, answer[1]
            assert any(peer.passed_back(method, data) == ours for peer in others.values()), (data, ours)
    print(f"{tried} answers")
    assert tried > 100


def written_answer(head: ResponseHead, body: bytes, trailers: Headers) -> bytes:
    framed = render.chunk(body) + render.last_chunk(trailers) if head.length == CHUNKED else body
    return render.response_head(head, head.headers, head.length, keep_alive=head.keep_alive) + framed
