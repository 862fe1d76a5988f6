"""Which watches run."""

import asyncio
from functools import partial

from nodeagent.config import CatalogTable
from nodeagent.control.consul import Answer, Catalog
from nodeagent.control.watch import Rhythm, Watch
from nodeagent.control.watches import Watches
from nodeagent.observe.metrics import Metrics
from tests.support.loop import run, until
from tests.support.scripted_catalog import NODES, ScriptedCatalog


class Scene:
    """Watches in a group of their own, and who took which answer."""

    def __init__(self, peer: ScriptedCatalog) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.catalog = Catalog(CatalogTable(peer.address, token_file=""), lambda: 0.0)
        self.watches = Watches(partial(Watch, self.catalog, metrics=Metrics("1"), draw=lambda: 0.5))

    def taker(self, name: str):
        async def take(answer: Answer) -> None:
            self.taken.append((name, answer.body))

        return take


def played(script) -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer:
            playing = Scene(peer)
            async with playing.catalog, asyncio.TaskGroup() as group:
                await script(playing, peer, group)
                for path in list(playing.watches):
                    playing.watches.stop(path)

    run(scene)


def test_one_that_begins_anew_replaces_the_one_before() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog, group: asyncio.TaskGroup) -> None:
        scene.watches.start(group, NODES, scene.taker("old"), Rhythm(poll_s=30))
        await until(lambda: scene.taken == [("old", b"[]")], "its answer")
        scene.watches.start(group, NODES, scene.taker("new"))
        assert scene.watches[NODES].rhythm == Rhythm()
        await until(lambda: len(scene.taken) == 2, "the other's answer")
        peer.set(NODES, [1])
        await until(lambda: len(scene.taken) == 3, "the change")
        assert scene.taken == [("old", b"[]"), ("new", b"[]"), ("new", b"[1]")]

    played(script)


def test_one_that_is_stopped_asks_no_more_and_stopping_none_is_nothing() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog, group: asyncio.TaskGroup) -> None:
        scene.watches.start(group, NODES, scene.taker("it"))
        await until(lambda: scene.taken, "its answer")
        task = next(task for task in asyncio.all_tasks() if task.get_name() == NODES)
        scene.watches.stop(NODES)
        scene.watches.stop(NODES)
        await asyncio.wait([task])
        assert task.cancelled()
        assert not scene.watches

    played(script)


def test_another_way_of_asking_is_taken() -> None:
    async def script(scene: Scene, _peer: ScriptedCatalog, group: asyncio.TaskGroup) -> None:
        async def read(_index: int, _wait_s: float) -> Answer:
            return Answer(b"[7]", "1", is_filtered=False) if not scene.taken else await asyncio.Future()

        scene.watches.start(group, NODES, scene.taker("it"), read=read)
        await until(lambda: scene.taken == [("it", b"[7]")], "its answer")

    played(script)
