"""An identity of a host, played against a scripted CA."""

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from nodeagent.config import CatalogTable, Config
from nodeagent.control.consul import Catalog
from nodeagent.control.environment import Environment, real_environment
from nodeagent.control.identity import Identity
from nodeagent.model.identity import KeyRing
from nodeagent.observe.metrics import Metrics
from tests.support.loop import run
from tests.support.mesh import config
from tests.support.scripted_catalog import ScriptedCatalog

SIGN = "/v1/nodeagent/sign"
ANY = config('[identity]\nunits = "any"\n')


class Scene:
    """An identity, and the rings that it handed out."""

    def __init__(self, peer: ScriptedCatalog, settings: Config) -> None:
        self.peer = peer
        self.rings: list[KeyRing] = []
        self.ahead_s = 0.0
        """By which this host's clock is ahead."""
        real = real_environment()
        env = Environment(lambda: real.now() + self.ahead_s, real.draw)
        self.catalog = Catalog(CatalogTable(peer.address, token_file=""), env.now)
        self.metrics = Metrics("1")
        self.identity = Identity(
            settings, self.catalog, self.metrics, env, hand_out=self.rings.append, on_trust=lambda: None
        )

    def names(self) -> list[str]:
        return [svid.service for svid in self.rings[-1].svids] if self.rings else []

    def signed(self) -> int:
        return sum(path == SIGN for path, _ in self.peer.written)


def played(script: Callable[[Scene], Awaitable[None]], settings: Config = ANY) -> None:
    """Runs the script with an identity that runs, too."""

    async def scene() -> None:
        with tempfile.TemporaryDirectory() as directory:
            await _played(script, replace(settings, admin=replace(settings.admin, state_dir=directory)))

    run(scene)


async def _played(script: Callable[[Scene], Awaitable[None]], settings: Config) -> None:
    async with ScriptedCatalog() as peer:
        playing = Scene(peer, settings)
        async with playing.catalog:
            task = asyncio.create_task(playing.identity.run())
            try:
                await script(playing)
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
