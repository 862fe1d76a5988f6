"""Control's end of one worker's channel, played by the test."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from nodeagent.proxy.control import ControlChannel
from nodeagent.proxy.live import Live
from nodeagent.wire.frames import FrameReader, Message, WorkerStats, encode_frame
from tests.support.twohosts import config_of, run


class Far:
    """Control's end: sends frames, reads those that come."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.channel = ControlChannel(live, lambda lag: WorkerStats(1, live.generation, 0, {}, 0, 0, [], lag, 0))
        self.reader = FrameReader()
        self.seen: list[Message] = []
        self.open()

    def open(self) -> None:
        ours, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.channel.attach(ours)

    def send(self, message: Message) -> None:
        self.sock.sendall(encode_frame(message))

    async def next(self, kind: type[Message]) -> Any:
        while True:
            for message in self.seen:
                if isinstance(message, kind):
                    self.seen.remove(message)
                    return message
            data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
            self.seen.extend(self.reader.feed(data))


def with_channel(work: Callable[[Far], Awaitable[None]]) -> None:
    async def body() -> None:
        far = Far(Live("b1", config_of("host1", "127.0.0.1")))
        await work(far)
        far.channel._detach()
        far.sock.close()

    run(body)


async def until(fact: Callable[[], bool]) -> None:
    while not fact():
        await asyncio.sleep(0)
