"""Who may come in, how many, and for how long."""

import asyncio
import json
import socket
from typing import Self

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.control.door import Door
from tests.support.loop import run, until


class Scene:
    """A door before an application that says hello."""

    def __init__(self, *, admits: bool = True) -> None:
        self.admits = admits

    async def __aenter__(self) -> Self:
        async def hello(_request: web.Request) -> web.Response:
            return web.Response(text="hello")

        async def wait(_request: web.Request) -> web.Response:
            self.waiting += 1
            await self.answer.wait()
            return web.Response(text="hello")

        self.waiting, self.answer = 0, asyncio.Event()
        app = web.Application()
        app.router.add_get("/", hello)
        app.router.add_get("/wait", wait)
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.door = Door(listener, app, lambda _: "" if self.admits else "a stranger", "here")
        self.task = asyncio.create_task(self.door.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])

    async def ask(self, path: str = "/") -> bytes:
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.mark.parametrize(("admits", "expected"), [(True, True), (False, False)])
def test_only_who_is_admitted_is_answered(*, admits: bool, expected: bool) -> None:
    async def scene() -> None:
        async with Scene(admits=admits) as playing:
            assert expected == (b"hello" in await playing.ask())

    run(scene)


def test_the_oldest_that_asks_nothing_gives_its_place_to_the_newest(monkeypatch) -> None:
    """So nobody holds the door shut; those who wait for their answer keep theirs, and then the newest has none."""
    monkeypatch.setattr(limits, "API_CONNECTIONS", 3)

    async def scene() -> None:
        async with Scene() as playing:
            idle = [await asyncio.open_connection(*playing.address) for _ in range(3)]
            assert b"hello" in await playing.ask()
            assert await idle[0][0].read() == b""
            asking = [asyncio.create_task(playing.ask("/wait")) for _ in range(3)]
            await until(lambda: playing.waiting == 3, "three wait for their answers")
            assert [await reader.read() for reader, _ in idle] == [b""] * 3
            assert await playing.ask() == b""
            playing.answer.set()
            assert all(b"hello" in text for text in await asyncio.gather(*asking))
            assert b"hello" in await playing.ask()
            for _, writer in idle:
                writer.close()

    run(scene)


def test_a_connection_has_a_life(monkeypatch) -> None:
    """Also one whose caller waits."""
    monkeypatch.setattr(limits, "API_CONNECTION_S", 0.3)

    async def scene() -> None:
        async with Scene() as playing:
            reader, writer = await asyncio.open_connection(*playing.address)
            assert await playing.ask("/wait") == b""
            assert await reader.read() == b""
            playing.answer.set()
            writer.close()

    run(scene)


def test_connections_that_have_ended_are_not_kept() -> None:
    """Nor are their timers: thousands in a row cost what one costs."""

    async def scene() -> None:
        async with Scene() as playing:
            for _ in range(5 * limits.API_CONNECTIONS):
                assert b"hello" in await playing.ask()
            assert len(playing.door._open) <= 2
            assert not playing.door._asking

    run(scene)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), "BadHttpMethod"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", "LineTooLong"),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 9000 + b"\r\n\r\n", "LineTooLong"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", "BadHttpMessage"),
        (b"GET / HTTP/9.9\r\n\r\n", "BadStatusLine"),
    ],
)
def test_what_is_no_request_is_answered_with_400_and_one_line(data: bytes, error: str, capsys) -> None:
    """Without a traceback, and without the caller's bytes in the log."""

    async def scene() -> None:
        async with Scene() as playing:
            reader, writer = await asyncio.open_connection(*playing.address)
            writer.write(data)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.0 400")
            assert json.loads(body) == {"apiVersion": "nodeagent/v1", "error": "400 Bad Request: not HTTP, or a line or header that is too long"}
            writer.close()

    run(scene)
    said = capsys.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if line]
    assert len(lines) == 1, lines
    assert "request_refused" in lines[0]
    assert error in lines[0]
    assert "aaa" not in lines[0]


def test_a_flood_of_refusals_ends_in_a_line_that_says_so(monkeypatch, capsys) -> None:
    """Whoever is not let in, be it a thousand times."""
    monkeypatch.setattr(limits, "FLOOD_LINES", 2)

    async def scene() -> None:
        async with Scene(admits=False) as playing:
            assert [await playing.ask() for _ in range(20)] == [b""] * 20

    run(scene)
    assert ["caller_refused", "caller_refused", "refusals_unlogged"] == [
        line.split("]")[1].split()[0] for line in capsys.readouterr().out.splitlines()
    ][:3]
