"""A follower that watches few services, and who asks ahead for it, over a scripted catalog that answers and is put into force when it may."""

import asyncio

from aiohttp import web

from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog
from nodeagent.control.environment import Environment
from nodeagent.control.first_use import FirstUse
from nodeagent.control.follow import Follower
from nodeagent.control.lately import there
from nodeagent.observe.metrics import Metrics
from tests.support.mesh import config
from tests.support.scripted_catalog import NODE, ScriptedCatalog, instance, node

HOST1, HOST2, HOST3 = (node(f"host{n}", f"10.77.0.{n}") for n in (1, 2, 3))


class SlowCatalog(ScriptedCatalog):
    """Answers questions about a host when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        answer = await super()._serve(request)
        if request.path.startswith(NODE) and not request.path.endswith("host1"):
            await self.may_answer.wait()
        return answer


class Scene:
    """A follower on host1, of services on host2, and who asks ahead."""

    def __init__(self, peer: SlowCatalog) -> None:
        self.peer = peer
        self.elapsed = 1000.0
        env = Environment(lambda: 1000.0, lambda: 0.0, lambda: self.elapsed)
        self.catalog = Catalog(CatalogTable(peer.address, token_file=""), env.now)
        self.follower = Follower(config(), self.catalog, Metrics("1"), env)
        self.first_use = FirstUse(self.catalog, self.follower, "host1", lambda host: host.startswith("host"))
        self.in_force: dict[str, int] = {}
        self.is_publishing = False
        self.may_publish = asyncio.Event()
        self.may_publish.set()

    def known(self, service: str = "s4") -> int:
        """Instances of a service."""
        return len(there(self.follower.seen.instances.get(service, ())))

    def asked(self, host: str = "host2") -> int:
        return len([path for _, path, _ in self.peer.asked if path == NODE + host])

    def waits(self, path: str) -> bool:
        """Whether its watch waits for news of it."""
        return [index for _, asked, index in self.peer.asked if asked == path][-1:] not in ([], [""])

    def ask(self, port: int | str = 9001, host: str = "host2") -> asyncio.Event:
        answered = asyncio.Event()
        self.first_use.ask(host, port, answered.set)
        return answered

    async def publish(self) -> None:
        """As Control.compile."""
        while True:
            await self.follower.changed.wait()
            with self.first_use.rounds.one():
                state = self.follower.state()
                self.is_publishing = True
                await self.may_publish.wait()
                self.is_publishing = False
                if state:
                    self.in_force = {name: len(there(rows)) for name, rows in state.instances.items()}


def move(scene: Scene, port: int = 9001, service: str = "s4") -> None:
    """Another instance, of which the one answer says nothing yet."""
    path = f"/v1/health/service/{service}"
    scene.peer.values[path] = scene.peer.index, [*scene.peer.values[path][1], instance(HOST2, service, port, f"{service}-{port}")]
