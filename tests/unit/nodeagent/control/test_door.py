"""Who may come in, how many, and for how long."""

import asyncio
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

        app = web.Application()
        app.router.add_get("/", hello)
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.task = asyncio.create_task(Door(listener, app, lambda _: self.admits).run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])

    async def ask(self) -> bytes:
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
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


def test_idle_connections_keep_nobody_out_for_longer_than_their_life(monkeypatch) -> None:
    monkeypatch.setattr(limits, "API_CONNECTIONS", 3)
    monkeypatch.setattr(limits, "API_CONNECTION_S", 0.3)

    async def scene() -> None:
        async with Scene() as playing:
            idle = [await asyncio.open_connection(*playing.address) for _ in range(3)]
            assert await playing.ask() == b""
            answers = []

            async def ask() -> None:
                while not answers:
                    answer = await playing.ask()
                    if answer:
                        answers.append(answer)
                    await asyncio.sleep(0.02)

            asking = asyncio.create_task(ask())
            await until(lambda: answers, "an answer after the idle were cut")
            await asking
            for _, writer in idle:
                writer.close()

    run(scene)
