"""Requests at the admin socket, through the real application: answered in our own words, never by a defect."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.fuzz.test_corpus import CORPUS, spoiled
from tests.support.control_scene import ControlScene
from tests.support.far_ends import snapshot_of
from tests.support.loop import run, until

SAMPLES = {path.name: path.read_bytes() for path in sorted((CORPUS / "admin_request").glob("*"))}
OURS = {200, 400, 403, 404, 405, 409, 413, 503}
LINE_BYTES = 8000  # aiohttp refuses longer first lines by itself, and may close before that was read
PATHS = ("why", "modes", "enforce", "status", "services", "certs", "connections")
KEYS = st.sampled_from(["id", "from", "to", "port", "address", "mode", "service", "limit", "closed", "x", ""])
WORDS = st.sampled_from(["web", "shop", "0-1", "strict", "80", "1", "10.77.0.2:80", "9" * 5000, "0", "-1", "\u0663", "\x00", "%", "*"])
QUERIES = st.lists(st.tuples(KEYS, WORDS | st.text(max_size=10)), max_size=4)
WISHES = st.dictionaries(
    st.sampled_from(["mode", "service", "x"]), st.none() | st.integers() | WORDS | st.sampled_from(["observe", "permissive"]), max_size=3
)


def exchange(path: str, request: bytes, *, is_whole: bool) -> tuple[int, bytes]:
    """Status and body of what comes back before the connection is closed; 0: nothing came. Ends it first if not whole."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(path)
        sock.sendall(request)
        if not is_whole:
            sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]) if head.startswith(b"HTTP/1.1 ") else 0), body


def check(path: str, head: bytes, body: bytes) -> int:
    """The status of a whole request's answer, which is JSON of ours."""
    more = b"Host: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    status, said = exchange(path, head + b" HTTP/1.1\r\n" + more + body, is_whole=True)
    assert status in OURS
    if said and not head.startswith(b"GET /metrics"):
        msgspec.json.decode(said)
    return status


def with_agent(directory: Path, ask: Callable[[str], None]) -> None:
    """Has `ask` ask an agent that knows a mesh; no request may make it complain of a defect, or keep it from the next."""

    async def scene() -> None:
        async with ControlScene(directory) as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            with capture_logs() as log:
                await asyncio.to_thread(ask, playing.socket)
            assert [line for line in log if line["event"] == "admin_request_failed"] == []
            assert (await playing.get("/v1/status"))[0] == 200

    run(scene)


def test_the_samples_are_answered_as_they_say(tmp_path: Path) -> None:
    """A sample is a request's first line, and its body."""

    def ask(path: str) -> None:
        for name, sample in SAMPLES.items():
            head, _, body = sample.partition(b"\n")
            status = check(path, head, body)
            assert (status == 200) == name.startswith("valid-"), (name, status)

    with_agent(tmp_path, ask)


def test_any_query_and_wish_is_answered(tmp_path: Path) -> None:
    """Known and unknown words in every place."""

    def ask(path: str) -> None:
        @given(st.sampled_from(PATHS), QUERIES, WISHES | st.none())
        def one(where: str, query: list[tuple[str, str]], wish: object) -> None:
            text = "&".join(f"{quote(key, errors='replace')}={quote(value, errors='replace')}" for key, value in query)
            method, body = ("GET", b"") if wish is None else ("POST", msgspec.json.encode(wish))
            assume(len(text) < LINE_BYTES)
            check(path, f"{method} /v1/{where}?{text}".encode(), body)

        one()

    with_agent(tmp_path, ask)


def test_spoiled_requests_end_no_agent(tmp_path: Path) -> None:
    """Whole requests with other bytes in them: an answer that blames the asker, or none."""

    def ask(path: str) -> None:
        @given(spoiled([b"HTTP/1.1\r\nHost: x\r\n\r\n", *SAMPLES.values()]))
        def one(data: bytes) -> None:
            head, _, body = data.partition(b"\n")
            request = head + b" HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            assert exchange(path, request, is_whole=False)[0] in OURS | {0}

        one()

    with_agent(tmp_path, ask)


@pytest.mark.parametrize("verdict", ["valid", "refused"])
def test_there_are_samples_of_both_kinds(verdict: str) -> None:
    """Else the tests above say little."""
    assert [name for name in SAMPLES if name.startswith(f"{verdict}-")]
