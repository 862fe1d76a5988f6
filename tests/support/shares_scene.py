"""Control and four workers on real channels, and requests of shop, which may have eight to web open."""

import asyncio
import socket
from dataclasses import replace
from typing import Self

import msgspec

from nodeagent.control.workers import Workers
from nodeagent.decide.chain import Leg, Target
from nodeagent.decide.dispatch import Pick
from nodeagent.errors import BreakerOpen
from nodeagent.model.policy.defaults import CallLimits, Upstream, UpstreamConfig
from nodeagent.model.snapshot import Snapshot
from nodeagent.observe.metrics import Metrics
from nodeagent.proxy.control import ControlChannel
from nodeagent.proxy.live import Live
from nodeagent.wire.frames import WorkerStats
from tests.support.loop import until
from tests.support.routed_mesh import routed_mesh
from tests.support.routes import instance
from tests.support.twohosts import config_of

LEG = Leg(route="default", target=Target("web"))
COURSE = ("shop", Target("web"))
BOUND, WORKERS = 8, 4


def snapshot() -> Snapshot:
    made = routed_mesh(instances=tuple(instance(number) for number in range(3)))
    shop = msgspec.structs.replace(
        made.services["shop"], upstreams=UpstreamConfig(defaults=Upstream(limits=CallLimits(max_concurrent_requests=BOUND)))
    )
    return replace(made, services={**made.services, "shop": shop})


class Worker:
    """Its end of the channel, and requests of shop."""

    def __init__(self, number: int) -> None:
        config = config_of("host1", "127.0.0.1")
        self.live = Live(f"t{number}", msgspec.structs.replace(config, host=msgspec.structs.replace(config.host, workers=WORKERS)))
        self.channel = ControlChannel(self.live, lambda lag: WorkerStats(1, self.live.generation, 0, {}, 0, 0, [], lag, 0))
        self.open: list[Pick] = []

    def take(self) -> bool:
        """Whether one more request goes."""
        http = self.live.http
        try:
            self.open.append(http.router.dispatch.take(self.live.snapshot, "shop", LEG, 0.0))
        except BreakerOpen:
            return False
        finally:
            http.sharing.note()
        return True

    async def take_all(self, number: int) -> int:
        """How many of so many go, if each waits for its turn once."""

        async def one() -> bool:
            if not self.take():
                await self.live.http.sharing.turn(COURSE)
                return self.take()
            return True

        return sum(await asyncio.gather(*(one() for _ in range(number))))

    def end(self, number: int) -> None:
        for _ in range(number):
            self.live.http.router.dispatch.give_back(self.open.pop(), 0.0, is_failure=False)
            self.live.http.sharing.freed(COURSE)


class Scene:
    """Use with `async with`."""

    async def __aenter__(self) -> Self:
        self.control = Workers(Metrics("1"), want_svid=lambda _: "", on_records=lambda _: None)
        self.control.publish(snapshot(), None)
        self.workers = [Worker(number) for number in range(WORKERS)]
        for number, worker in enumerate(self.workers):
            ours, theirs = socket.socketpair()
            worker.channel.attach(ours)
            await self.control.adopt(number, 4000 + number, theirs)
        await until(lambda: len(self.control.links) == WORKERS and all(link.shares for link in self.control.links), "all share")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.control.close()
        for worker in self.workers:
            worker.channel._detach()
        await until(lambda: not self.control.links, "all links are gone")

    @property
    def used(self) -> int:
        return sum(len(worker.open) for worker in self.workers)
