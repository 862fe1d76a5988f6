"""What this host holds, told to the CA: a root is not kept for certificates that nobody has any more."""

import asyncio
from collections.abc import Callable
from typing import NoReturn

import msgspec

from nodeagent import limits
from nodeagent.control.consul import Catalog
from nodeagent.errors import CatalogError
from nodeagent.observe.log import open_log

PATH = "/v1/nodeagent/held"

_log = open_log()


class HeldCertificate(msgspec.Struct, frozen=True, rename="pascal"):
    """One of them, as the CA wants it named."""

    service: str
    serial: str
    root: str
    """Id of the root above it."""
    until: float
    """Unix seconds."""


class Holdings:
    """Owned by Identity; its task runs `run`."""

    def __init__(self, catalog: Catalog, held: Callable[[], list[HeldCertificate]], draw: Callable[[], float]) -> None:
        self.changed = asyncio.Event()
        """Set when workers were given other certificates than before; not earlier, for until then they hold the old ones."""
        self._catalog = catalog
        self._held = held
        self._draw = draw
        self._error = ""

    async def run(self) -> NoReturn:
        """Tells after each change, when the catalog is back, and now and then, for it may have lost what it was told."""
        await self.changed.wait()
        while True:
            await asyncio.sleep(limits.HELD_S * (0.5 + self._draw()))
            self.changed.clear()
            await self._tell()
            await self._next_occasion()

    async def _tell(self) -> None:
        """A CA that does not ask for it, as another product's, is told in vain: it keeps certificates until they end."""
        error = ""
        try:
            await self._catalog.put(PATH, {"Certificates": self._held()})
        except CatalogError as refusal:
            error = str(refusal)
        if error and error != self._error:
            _log.info("held_not_told", error=error)
        self._error = error

    async def _next_occasion(self) -> None:
        waits = {
            asyncio.ensure_future(self.changed.wait()),
            asyncio.ensure_future(self._catalog.rest(limits.HELD_AGAIN_S)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
