"""What the catalog says of protocols: of services, and of those of which it says nothing."""

from collections.abc import Callable
from typing import TypeVar

from nodeagent.catalog.state import CatalogState, parse_proxy_defaults, parse_service_defaults
from nodeagent.control.consul import Answer
from nodeagent.control.foreign import Foreign
from nodeagent.control.seen import Seen
from nodeagent.control.watch import Held

_Known = TypeVar("_Known")


class Protocols:
    """Owned by the follower."""

    def __init__(self, seen: Seen, foreign: Foreign, on_change: Callable[[], None]) -> None:
        self._seen = seen
        self._foreign = foreign
        self._on_change = on_change
        self._saved: CatalogState | None = None

    def remember(self, saved: CatalogState) -> None:
        """Takes over what was saved before this process started: it holds where the first answers are another cluster's."""
        self._saved = saved

    async def take(self, answer: Answer) -> None:
        """After each answer about services.

        Raises:
            Held: it is another cluster's; what was known counts.
            CatalogError: no such answer, or the catalog could not be asked.
        """
        said, saved = parse_service_defaults(answer.body), dict(self._saved.protocols) if self._saved else None
        known, why = await self._known(self._seen.protocols, saved)
        self._seen.protocols = said if known is None else known
        self._settle(why)

    async def take_default(self, answer: Answer) -> None:
        """After each answer about all others; as `take`."""
        said = parse_proxy_defaults(answer.body)
        known, why = await self._known(self._seen.default_protocol, self._saved.default_protocol if self._saved else None)
        self._seen.default_protocol = said if known is None else known
        self._settle(why)

    async def _known(self, heard: _Known | None, saved: _Known | None) -> tuple[_Known | None, str]:
        """What is held, and why. Where nothing was known nothing is: without protocols no change at all comes into force."""
        known = saved if heard is None else heard
        why = "" if known is None else await self._foreign.why()
        return (known if why else None), why

    def _settle(self, why: str) -> None:
        self._on_change()
        if why:
            raise Held(f"protocols stay as they were: {why}")
