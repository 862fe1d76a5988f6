"""The services that are too many to be watched one by one: one answer has them all, and is asked for when it is wanted.

A catalog that does not give it (an older embedded one, a Consul whose operator has blocked it, an answer that is too long) is asked
for each by itself, now and then.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import TypeVar

from nodeagent import limits
from nodeagent.catalog.claims import since_moved
from nodeagent.catalog.inventory import INVENTORY, Inventory, InventoryReader
from nodeagent.control.consul import Answer, Catalog, CatalogRefused, CatalogUnusable
from nodeagent.control.hold_back import Rows
from nodeagent.control.proof import NOT_SERVED
from nodeagent.control.seen import Seen

T = TypeVar("T")

_BLOCKED = "blocked by agent configuration"
"""So Consul refuses an endpoint that its `http_config` takes away."""


class Together:
    """Owned by the follower."""

    def __init__(self, catalog: Catalog, seen: Seen, on_served: Callable[[], None]) -> None:
        """on_served: is told when it turns out that the catalog gives the answer, or does not."""
        self.names: frozenset[str] = frozenset()
        """The services that are not watched."""
        self.is_served = True
        self.listed = Inventory({}, {})
        """The last answer that was put into force."""
        self._catalog = catalog
        self._seen = seen
        self._on_served = on_served
        self._reader = InventoryReader()
        self._asked: frozenset[str] = frozenset()
        """`names` when the last question was sent."""
        self._own: dict[str, Rows] = {}
        """What services' own answers said since then: it may be newer than the answer."""
        self._is_behind = False
        """Whether the answer said something else of one of them."""

    def found(self) -> str:
        """How they are read, in words; empty: there are none."""
        how = "in one answer" if self.is_served else "one by one"
        return f"{len(self.names)} services read {how}, the others watched" if self.names else ""

    def alone(self) -> frozenset[str]:
        """Those that are read by themselves: new ones at once, as the next answer may be CATALOG_POLL_S away. None where they are many."""
        if not self.is_served:
            return self.names
        unheard = self.names - self._seen.instances.keys() - self.listed.refused.keys() if self.listed.instances else frozenset()
        return unheard if len(unheard) <= limits.CATALOG_ALONE else frozenset()

    def is_outdated(self, names: Iterable[str], alone: Collection[str]) -> bool:
        """Whether another answer is wanted at once.

        The last one may be older than a service's own, or said something else of `names`, which were watched until now, than theirs; or
        some are new, too many to be read by themselves, and no question was sent since.
        """
        listed, heard = self.listed.instances, self._seen.instances
        if not listed:
            return False
        is_new = bool(self.names - heard.keys() - self._asked - frozenset(alone))
        return self._is_behind or is_new or any(self._is_unlike(name, listed.get(name, ())) for name in names if name in heard)

    def note_own(self, service: str, rows: Rows) -> None:
        """So its own answer said."""
        self._own[service] = rows

    def is_current(self, service: str, rows: Rows) -> bool:
        """Whether that, which the answer says of a service, may come into force: it is not watched by now, and has not said something else itself."""
        return service in self.names and not self._is_overtaken(service, rows)

    def _is_overtaken(self, service: str, rows: Rows) -> bool:
        is_overtaken = self._own.get(service, rows) != rows
        self._is_behind = self._is_behind or is_overtaken
        return is_overtaken

    async def read(self, index: int, wait_s: float) -> Answer:
        """As Catalog.read, of the one answer."""
        self._asked, self._own, self._is_behind = self.names, {}, False
        try:
            answer = await self._catalog.read(INVENTORY, index, wait_s)
        except CatalogUnusable:
            self._note_served(False)
            raise
        except CatalogRefused as error:
            if error.status in NOT_SERVED or _BLOCKED in str(error):
                self._note_served(False)
            raise
        self._note_served(True)
        return answer

    async def parse(self, answer: Answer) -> Inventory:
        """What is in an answer. In a thread, for it may be tens of megabytes.

        Raises:
            CatalogError: as InventoryReader.read.
        """
        return await asyncio.to_thread(self._reader.read, answer.body)

    async def news(
        self, listed: Inventory, names: frozenset[str], is_here: Callable[[str, Rows], bool]
    ) -> tuple[dict[str, Rows], list[str]]:  # fmt: skip
        """Of these services the rows from which anything follows, and what cannot be taken, in words.

        The answer may be older than what is known otherwise: it takes nothing of that back, and nothing follows from its silence about
        a service that is new since the question.
        """
        news: dict[str, Rows] = {}
        complaints = [listed.refused[name] for name in sorted(names & listed.refused.keys())]
        async for name in in_turns(sorted(names - listed.refused.keys())):
            rows, heard = listed.instances.get(name, ()), self._seen.instances.get(name)
            if self._is_overtaken(name, rows) or (heard is None and not rows and name not in self._asked):
                continue
            if self._is_unlike(name, rows) or self._seen.held.get(name) or is_here(name, rows):
                news[name] = rows
        return news, complaints

    def _is_unlike(self, service: str, rows: Rows) -> bool:
        """Whether that is another than what is in force, but for since when an instance is there, where it has moved: no answer says it."""
        heard = self._seen.instances.get(service)
        return heard is None or (rows != heard and since_moved(heard, rows) != heard)

    def _note_served(self, is_served: bool) -> None:  # noqa: FBT001 - a value that is kept
        if is_served != self.is_served:
            self.is_served = is_served
            self._on_served()


async def in_turns(many: Iterable[T]) -> AsyncIterator[T]:
    """All of them; the loop gets its turn now and then."""
    for number, one in enumerate(many):
        if number % limits.DECODE_ROWS == 0:
            await asyncio.sleep(0)
        yield one
