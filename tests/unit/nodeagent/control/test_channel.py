"""Frames in, frames out, both bounded."""

import asyncio
import socket
from typing import Self

from nodeagent.control.channel import Channel
from nodeagent.wire.frames import AskConnections, FrameReader, WantSvid, encode_frame
from tests.support.loop import run, until


class Pair:
    """A channel and the raw socket at its other end."""

    def __init__(self, backlog_bytes: int = 1 << 20) -> None:
        self.heard: list[object] = []
        self.why: list[str] = []
        self.channel = Channel(self._hear, self.why.append, backlog_bytes)

    def _hear(self, message: object) -> None:
        if message == WantSvid("defect"):
            raise ValueError("a defect of ours")
        self.heard.append(message)

    async def __aenter__(self) -> Self:
        self.far, near = socket.socketpair()
        self.far.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self.channel, near)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.channel.abort("the test is over")
        self.far.close()
        await until(lambda: self.why, "the end")


def test_messages_come_and_go() -> None:
    async def scene() -> None:
        async with Pair() as pair:
            pair.far.send(encode_frame(WantSvid("web"))[:3])
            pair.far.send(encode_frame(WantSvid("web"))[3:] + encode_frame(WantSvid("shop")))
            await until(lambda: pair.heard == [WantSvid("web"), WantSvid("shop")], "both messages")
            pair.channel.send(AskConnections(1, 2))
            data = await asyncio.get_running_loop().sock_recv(pair.far, 1000)
            assert list(FrameReader().feed(data)) == [AskConnections(1, 2)]

    run(scene)


def test_a_far_end_that_does_not_read_is_cut() -> None:
    async def scene() -> None:
        async with Pair(backlog_bytes=100_000) as pair:
            for _ in range(2000):
                pair.channel.send(WantSvid("x" * 1000))
            await until(lambda: pair.why, "the cut")
            assert "has not read" in pair.why[0]

    run(scene)


def test_one_message_may_be_larger_than_the_backlog() -> None:
    async def scene() -> None:
        async with Pair(backlog_bytes=10) as pair:
            pair.channel.send(WantSvid("x" * 1000))
            assert len(await asyncio.get_running_loop().sock_recv(pair.far, 5000)) > 1000
            assert pair.why == []

    run(scene)


def test_garbage_closes_the_channel() -> None:
    async def scene() -> None:
        async with Pair() as pair:
            pair.far.send(b"\xff" * 50)
            await until(lambda: pair.why, "the end")
            assert "the limit" in pair.why[0]

    run(scene)


def test_a_message_that_we_mishandle_does_not_close_the_channel() -> None:
    async def scene() -> None:
        async with Pair() as pair:
            pair.far.send(encode_frame(WantSvid("defect")))
            await asyncio.sleep(0)
            pair.far.send(encode_frame(WantSvid("web")))
            await until(lambda: pair.heard == [WantSvid("web")], "the next message")

    run(scene)


def test_the_other_end_that_closes_is_told_once() -> None:
    async def scene() -> None:
        async with Pair() as pair:
            pair.far.shutdown(socket.SHUT_RDWR)
            await until(lambda: pair.why, "the end")
            pair.channel.send(WantSvid("web"))
            assert pair.why == ["closed by the other end"]

    run(scene)
