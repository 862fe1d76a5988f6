"""The services that are too many to be watched one by one: one answer has them all, and is asked for when it is wanted.

A catalog that does not give it (an older embedded one, a Consul whose operator has blocked it, an answer that is too long) is asked
for each by itself, now and then.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import TypeVar

from nodeagent import limits
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
        self._alone: set[str] = set()
        """Those of `names` that were read by themselves since then."""

    def found(self) -> str:
        """How they are read, in words; empty: there are none."""
        how = "in one answer" if self.is_served else "one by one"
        return f"{len(self.names)} services read {how}, the others watched" if self.names else ""

    def alone(self) -> frozenset[str]:
        """Those that are read by themselves: new ones at once, as the next answer may be CATALOG_POLL_S away. None where they are many."""
        if not self.is_served:
            return self.names
        unheard = self.names - self._seen.instances.keys() if self.listed.instances else frozenset()
        return unheard if len(unheard) <= limits.CATALOG_ALONE else frozenset()

    def is_outdated(self, names: Iterable[str], alone: Collection[str]) -> bool:
        """Whether another answer is wanted at once for these, which were not among `names` before.

        It said something else than their own last answers, or does not know them, and they are too many to be read by themselves.
        """
        listed, heard = self.listed.instances, self._seen.instances
        return bool(listed) and any(listed.get(name, ()) != heard[name] if name in heard else name not in alone for name in names)

    def note_alone(self, service: str) -> None:
        """It was read by itself."""
        if service in self.names:
            self._alone.add(service)

    async def read(self, index: int, wait_s: float) -> Answer:
        """As Catalog.read, of the one answer."""
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

    async def parse(self, answer: Answer) -> tuple[Inventory, frozenset[str]]:
        """What is in an answer, and which services were read by themselves since the last. In a thread, for it may be tens of megabytes.

        Raises:
            CatalogError: as InventoryReader.read.
        """
        listed = await asyncio.to_thread(self._reader.read, answer.body)
        alone, self._alone = frozenset(self._alone), set()
        return listed, alone

    async def news(
        self, listed: Inventory, alone: Collection[str], names: frozenset[str], is_here: Callable[[str, Rows], bool]
    ) -> tuple[dict[str, Rows], list[str]]:  # fmt: skip
        """Of these services the rows from which anything follows, and what cannot be taken, in words."""
        news: dict[str, Rows] = {}
        complaints = [listed.refused[name] for name in sorted(names & listed.refused.keys())]
        async for name in in_turns(sorted(names - listed.refused.keys())):
            rows = listed.instances.get(name, ())
            if name in alone and not rows:  # the question may be older than the service
                complaints.append(f"{name}: it is not in the list of all, and was there when it was read by itself; asked again")
            elif rows != self._seen.instances.get(name) or self._seen.held.get(name) or is_here(name, rows):
                news[name] = rows
        return news, complaints

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
