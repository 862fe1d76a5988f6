"""Who may come in, how many, and for how long."""

import asyncio
import os
import socket
import tempfile
from pathlib import Path
from typing import NoReturn, Self

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.control.door import Door, may_read
from tests.support.loop import run, until


def test_the_kernels_word_about_the_far_end_decides() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert may_read(ours, uids={os.geteuid()}, gid=2**31)
        assert may_read(ours, uids=(), gid=os.getegid())
        assert not may_read(ours, uids=(), gid=2**31)


def test_a_supplementary_group_is_enough() -> None:
    """Another uid, in the socket's group only by its supplementary groups, as an operator is."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        Path(directory).chmod(0o755)  # pytest's own directories are closed to other uids
        path = f"{directory}/sock"
        listener.bind(path)
        Path(path).chmod(0o666)
        listener.listen()
        listener.settimeout(20)
        child = os.fork()
        if child == 0:
            _connect_as(path, uid=64998, group=64999)
        near, _ = listener.accept()
        with near:
            assert may_read(near, uids={0}, gid=64999)
            assert may_read(near, uids={0}, gid=64998)
            assert not may_read(near, uids={0}, gid=64997)
        os.waitpid(child, 0)


def _connect_as(path: str, *, uid: int, group: int) -> NoReturn:
    """In a child: connects, and ends when the other side does."""
    os.setgroups([group])
    os.setgid(uid)
    os.setuid(uid)
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    client.recv(1)
    os._exit(0)


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
