"""A worker that only follows: its loop, its channel to control, its decoding; says when each snapshot came into force."""

import asyncio
import gc
import os
import socket
import time
from multiprocessing.connection import Connection

import msgspec
import uvloop

from nodeagent.config import Config
from nodeagent.model.snapshot import Snapshot
from nodeagent.proxy.control import ControlChannel
from nodeagent.proxy.live import Live
from nodeagent.wire.frames import WorkerStats
from tests.bench.loops import LoopFigures, LoopWatch


class InForce(msgspec.Struct, frozen=True):
    """A snapshot came into force in the worker."""

    generation: int
    at: float
    """Of the monotonic clock, which all processes share."""


Said = InForce | LoopFigures


class _FollowingLive(Live):
    """Tells of each snapshot."""

    pipe: Connection

    def follow(self, snapshot: Snapshot) -> None:
        super().follow(snapshot)
        self.pipe.send(InForce(snapshot.generation, time.monotonic()))


def run(config: Config, sock: socket.socket, pipe: Connection) -> None:
    """Follows until it is ended; answers each word in the pipe with its figures."""
    gc.freeze()  # as `run_worker`
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, sock, pipe))


async def _serve(config: Config, sock: socket.socket, pipe: Connection) -> None:
    live, watch = _FollowingLive("bench", config), LoopWatch()
    live.pipe = pipe
    channel = ControlChannel(live, lambda lag_s: WorkerStats(os.getpid(), live.generation, 0, {}, 0, 0, [], lag_s, 0))
    channel.attach(sock)
    asyncio.get_running_loop().add_reader(pipe.fileno(), _answer, pipe, watch)
    await watch.run()


def _answer(pipe: Connection, watch: LoopWatch) -> None:
    pipe.recv()
    pipe.send(watch.take())
