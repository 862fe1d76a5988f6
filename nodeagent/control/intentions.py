"""Where this catalog keeps intentions, found out by asking.

Where a server keeps no entries, entries for it are in the KV store, each in the place of the rows of its destination. Once a
server's own entries were in force, the KV store says nothing any more, also to an agent that starts again: who may write
there need not be who may write intentions.
"""

import asyncio
from dataclasses import replace

from nodeagent.catalog.kept_intentions import KEPT_INTENTIONS, KeptIntentions, overlaid, parse_kept, shadowed
from nodeagent.catalog.legacy_intentions import LEGACY_INTENTIONS, is_unknown_kind, parse_legacy_intentions
from nodeagent.catalog.permissions import PermissionReader
from nodeagent.catalog.state import Place, parse_intentions
from nodeagent.control.consul import Answer, Catalog, CatalogRefused
from nodeagent.control.moved import left_over, not_in_force, shut, unmoved
from nodeagent.control.proof import FORBIDDEN, NOT_SERVED, Rows, actions_of, unlisted

ENTRIES = "/v1/config/service-intentions"


class IntentionSource:
    """Config entries, or rows of their own where the server keeps no such entries. Owned by one watch."""

    def __init__(self, catalog: Catalog) -> None:
        self.turn = asyncio.Lock()
        """Held while an answer is taken: what is read anew beside it must not be older than what another watch has taken meanwhile."""
        self.is_legacy = False
        self.kept: KeptIntentions | None = None
        """What the KV store has; None: not heard. Counts while rows are read."""
        self._unmoved = ""
        """What the KV store has and the server's own entries have not, in words, while these are not taken for that."""
        self._hidden = ""
        """Which rows are not in force, in words, as of the last `in_force`."""
        self._listed: Rows | None = None
        self._is_new = True
        """Whether it is not known if the KV store counted before."""
        self._shut: frozenset[str] = frozenset()
        """Destinations of which the KV store has what the server's own entries lack, and nobody knows which of the two is older."""
        self._reader = PermissionReader()
        self._catalog = catalog

    @property
    def place(self) -> Place:
        """Where the intentions are that are in force; empty: not known for certain."""
        return "rows" if self.is_legacy else "" if self._is_new else "entries"

    def remember(self, place: Place) -> None:
        """Takes over where they were when what was saved was in force."""
        self._is_new, self.is_legacy = not place, place == "rows"

    async def read(self, index: int, wait_s: float) -> Answer:
        """As Catalog.read. Entries are asked for first each time: the server may have been upgraded since.

        An index of the one means nothing to the other: with which it is changed the answer comes at once.

        Raises:
            CatalogError: as Catalog.read.
        """
        entries = await self._read_entries(0 if self.is_legacy else index, wait_s)
        if entries and self.is_legacy and not await self._has_moved(entries):
            entries = None
        elif entries and self._is_new:
            await self._look_beside(entries)
        is_legacy = entries is None
        self._is_new = self._is_new and not is_legacy
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
        """Whether what rows and the KV store say is among the entries: while servers are upgraded one by one, some have none, or few.

        A server upgrades its rows by itself, and nothing of the KV store.
        """
        kept = await self._read_kept()
        try:
            rows = parse_legacy_intentions((await self._catalog.read(LEGACY_INTENTIONS)).body)
        except CatalogRefused as error:
            if error.status in NOT_SERVED:  # what is missing then is asked for by itself
                self._unmoved = ""
                return True
            raise
        lacking = unlisted(overlaid(rows, kept.rows), actions_of(await asyncio.to_thread(parse_intentions, entries.body)))
        self._unmoved = unmoved(tuple(row for row in lacking if row.destination in kept.rows))
        return not lacking

    async def _look_beside(self, entries: Answer) -> None:
        """Whether the KV store of a server with entries says what these lack: it was upgraded, or something was left there, or put there.

        Nobody knows any more which of the two was in force, so a destination takes no calls until they agree.
        """
        kept = await self._read_kept()
        lacking = unlisted(overlaid((), kept.rows), actions_of(await asyncio.to_thread(parse_intentions, entries.body)))
        self._shut = frozenset(row.destination for row in lacking)
        self._unmoved = left_over(lacking)
        self._is_new = bool(self._shut)

    async def _read_kept(self) -> KeptIntentions:
        """What the KV store has now; a server that always had entries need not show it."""
        try:
            return await asyncio.to_thread(parse_kept, (await self._catalog.read(KEPT_INTENTIONS)).body)
        except CatalogRefused as error:
            if self.is_legacy or error.status not in (*FORBIDDEN, *NOT_SERVED):
                raise
            return KeptIntentions()

    async def take(self, answer: Answer) -> None:
        """Keeps what `read` gave last. In a thread, for thousands of permissions that are new take a second.

        Raises:
            CatalogError: as `parse`.
        """
        self._listed = await asyncio.to_thread(self.parse, answer)

    async def take_kept(self, answer: Answer) -> None:
        """Keeps what the KV store has.

        Raises:
            CatalogError: it cannot be read.
        """
        self.kept = await asyncio.to_thread(parse_kept, answer.body, self.kept or KeptIntentions())

    async def refresh(self) -> None:
        """Reads what counts beside entries anew: what is doubted may have been shown by then, and a watch hears nothing of rights.

        Raises:
            CatalogError: as `read`.
        """
        if self.is_legacy and self.kept is not None:
            self._listed = parse_legacy_intentions((await self._catalog.read(LEGACY_INTENTIONS)).body)
            self.kept = await self._read_kept()

    def in_force(self) -> Rows | None:
        """All that counts; None where a part of it was not heard yet: what is there without the other may be wider."""
        self._hidden = ""
        if not self.is_legacy or self._listed is None:
            return None if self._listed is None else shut(self._listed, self._shut)
        if self.kept is None:
            return None
        self._hidden = not_in_force(shadowed(self._listed, self.kept.rows))
        return overlaid(self._listed, self.kept.rows)

    @property
    def doubt(self) -> str:
        """Why what is in force may change without news from the watch; empty: it does not."""
        return self._unmoved if self._shut else ""

    @property
    def alarms(self) -> tuple[str, ...]:
        """What is written and not in force, in words."""
        return tuple(filter(None, (self._unmoved, self._hidden)))

    def parse(self, answer: Answer) -> Rows:
        """The rows in what `read` gave last.

        Raises:
            CatalogError: they cannot be read.
        """
        return parse_legacy_intentions(answer.body) if self.is_legacy else parse_intentions(answer.body, self._reader)
