"""What is told to the CA, against a scripted one."""

import asyncio
import contextlib

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog
from nodeagent.control.holdings import PATH, HeldCertificate, Holdings
from tests.support.loop import run, until
from tests.support.scripted_catalog import ScriptedCatalog

SHOP = HeldCertificate("shop", "4a:00", "r1", 1000.0)
SAID = {"Service": "shop", "Serial": "4a:00", "Root": "r1", "Until": 1000.0}


class Scene:
    """Holdings that a test changes."""

    def __init__(self, peer: ScriptedCatalog) -> None:
        self.peer = peer
        self.held = [SHOP]
        self.catalog = Catalog(CatalogTable(peer.address, token_file=""), lambda: 0.0)
        self.holdings = Holdings(self.catalog, lambda: self.held, lambda: 0.5)

    def told(self) -> list[list[object]]:
        return [body["Certificates"] for path, body in self.peer.written if path == PATH]


def played(script) -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer:
            playing = Scene(peer)
            async with playing.catalog:
                task = asyncio.create_task(playing.holdings.run())
                try:
                    await script(playing)
                finally:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    run(scene)


def test_each_change_is_told_and_those_that_come_together_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told before the workers have anything: they may still hold what a predecessor gave them."""
    monkeypatch.setattr(limits, "HELD_S", 0.05)

    async def script(scene: Scene) -> None:
        await asyncio.sleep(0)
        assert scene.told() == []
        for _ in range(10):
            scene.holdings.changed.set()
        await until(lambda: scene.told() == [[SAID]], "the first word")
        scene.held = []
        scene.holdings.changed.set()
        await until(lambda: scene.told() == [[SAID], []], "the change")

    played(script)


def test_it_is_told_again_when_the_catalog_is_back_and_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELD_S", 0.01)

    async def script(scene: Scene) -> None:
        scene.holdings.changed.set()
        await until(lambda: len(scene.told()) == 1, "the first word")
        await asyncio.sleep(0)
        while len(scene.told()) == 1:
            scene.catalog.wake()
            await asyncio.sleep(0.01)
        monkeypatch.setattr(limits, "HELD_AGAIN_S", 0.01)
        scene.catalog.wake()
        await until(lambda: len(scene.told()) >= 5, "more of the same")

    played(script)


@pytest.mark.parametrize("status", [403, 404, 501, 500])
def test_a_ca_that_does_not_take_it_costs_one_line(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELD_S", 0.01)
    monkeypatch.setattr(limits, "HELD_AGAIN_S", 0.01)

    async def script(scene: Scene) -> None:
        scene.peer.scripts[PATH] = lambda _: web.Response(status=status, text="what is that?")
        scene.holdings.changed.set()
        await until(lambda: len(scene.peer.asked) >= 3, "some tries")
        scene.peer.scripts.clear()
        await until(scene.told, "it is told, once somebody listens")

    with capture_logs() as log:
        played(script)
    assert [line["event"] for line in log] == ["held_not_told"]
