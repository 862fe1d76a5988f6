"""Where this catalog keeps intentions, found out by asking."""

from dataclasses import replace

from nodeagent.catalog.legacy_intentions import LEGACY_INTENTIONS, is_unknown_kind, parse_legacy_intentions
from nodeagent.catalog.state import parse_intentions
from nodeagent.control.consul import Answer, Catalog, CatalogRefused
from nodeagent.control.proof import NOT_SERVED, Rows, actions_of, unlisted

ENTRIES = "/v1/config/service-intentions"


class IntentionSource:
    """Config entries, or rows of their own where the server keeps no such entries. Owned by one watch."""

    def __init__(self, catalog: Catalog) -> None:
        self.is_legacy = False
        self._catalog = catalog

    async def read(self, index: int, wait_s: float) -> Answer:
        """As Catalog.read. Entries are asked for first each time: the server may have been upgraded since.

        An index of the one means nothing to the other: with which it is changed the answer comes at once.

        Raises:
            CatalogError: as Catalog.read.
        """
        entries = await self._read_entries(0 if self.is_legacy else index, wait_s)
        if entries and self.is_legacy and not await self._has_moved(entries):
            entries = None
        is_legacy = entries is None
        is_other = is_legacy != self.is_legacy
        answer = entries or await self._catalog.read(LEGACY_INTENTIONS, 0 if is_other else index, wait_s)
        self.is_legacy = is_legacy
        return replace(answer, index=None) if is_other else answer  # what it counts is something else: it has not gone back

    async def _read_entries(self, index: int, wait_s: float) -> Answer | None:
        """None where the server keeps none."""
        try:
            return await self._catalog.read(ENTRIES, index, wait_s)
        except CatalogRefused as error:
            if is_unknown_kind(str(error)):
                return None
            raise

    async def _has_moved(self, entries: Answer) -> bool:
        """Whether the rows are among the entries: while servers are upgraded one by one, some have none, or few."""
        try:
            rows = parse_legacy_intentions((await self._catalog.read(LEGACY_INTENTIONS)).body)
        except CatalogRefused as error:
            if error.status in NOT_SERVED:  # what is missing then is asked for by itself
                return True
            raise
        return not unlisted(rows, actions_of(parse_intentions(entries.body)))

    def parse(self, answer: Answer) -> Rows:
        """The rows in what `read` gave last.

        Raises:
            CatalogError: they cannot be read.
        """
        return parse_legacy_intentions(answer.body) if self.is_legacy else parse_intentions(answer.body)
