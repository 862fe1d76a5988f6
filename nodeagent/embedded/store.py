"""The catalog's data for the running server: reads at once, writes in turn, watchers woken after each.

Reads of one thing run in the event loop: each is one or two indexed statements on pages that SQLite holds in memory, some
microseconds, and WAL lets them go on while somebody writes; a thread would cost more than it saves. Lists may be long: they are
read beside the loop. Writes wait for the disk (fsync), so they run in one thread of their own, one after another.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TypeVar

from nodeagent import limits
from nodeagent.embedded.aside import Aside
from nodeagent.embedded.database import (
    Change,
    commit,
    data_version,
    newest_index,
    open_database,
    query,
    topics_since,
)  # fmt: skip
from nodeagent.embedded.failures import Failures
from nodeagent.embedded.noticed import Noticed
from nodeagent.embedded.refusal import StorageFailed
from nodeagent.embedded.watchers import Watchers

T = TypeVar("T")


class Store:
    """Owned by the event loop of the server; closed by it."""

    def __init__(self, path: Path) -> None:
        self.watchers = Watchers()
        self.aside = Aside()
        self._beside = [open_database(path) for _ in range(limits.CATALOG_ASIDE)]
        """One for each thread beside the loop; those that read now are not in it."""
        self._reader = open_database(path)
        self._writer = open_database(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalog-writer")
        self._writes: set[asyncio.Task[object]] = set()
        self._failures = Failures(time.monotonic)
        self._opened_at = query(self._reader, newest_index)  # first: what comes between the two is heard
        self._version = data_version(self._writer)
        self.noticed = Noticed(self._reader)

    def read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """What `ask` finds.

        Raises:
            StorageFailed: the disk is broken.
        """
        return self._query(self._reader, ask)

    async def read_aside(self, accessor: str, ask: Callable[[sqlite3.Connection], T]) -> T:
        """What `ask` finds, beside the event loop, in the turn of that token.

        Raises:
            StorageFailed: the disk is broken.
            TooMany: more reads of that token wait than it may have open.
        """
        return await self.aside.run(accessor, lambda: self._read_beside(ask), limits.BLOCKING_PER_TOKEN)

    async def write(self, make: Callable[[Change], T]) -> T:
        """What `make` gives, once it is on the disk. A caller that goes away stops neither the write nor the waking.

        Raises:
            StorageFailed: nothing was stored.
        """
        if self._failures.broken:
            raise StorageFailed(f"not stored: {self._failures.broken}; this catalog only answers reads until it is restarted")
        task = asyncio.ensure_future(self._write(make))
        self._writes.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def hear_others(self) -> NoReturn:
        """Wakes watchers of what other processes write, until it is cancelled: the command line revokes tokens beside us.

        Single KV keys are not among it: their changes are noted in their own rows, and the command line writes none.
        """
        seen = self._opened_at
        while True:
            await asyncio.sleep(limits.CATALOG_OTHERS_S)
            with suppress(StorageFailed, sqlite3.Error):  # who asks for something is told; here it is tried again
                seen = await self._hear(seen)

    async def _hear(self, seen: int) -> int:
        """One look for what is newer than the change `seen`; the number of the newest."""
        newest = self.read(newest_index)
        if newest == seen:
            return seen
        in_thread = asyncio.get_running_loop().run_in_executor
        version = await in_thread(self._thread, data_version, self._writer)
        if version != self._version:  # another connection than the writer's has committed
            topics = self.read(lambda connection: topics_since(connection, seen))
            self.watchers.wake(topics)
            await in_thread(self._thread, query, self._writer, lambda connection: self.noticed.look(connection, topics))
            self._version = version  # not before: what could not be told is told by the next look
        return newest

    async def close(self) -> None:
        """Ends when the last write has."""
        await asyncio.gather(*self._writes, return_exceptions=True)
        self.aside.close()
        self._thread.shutdown()
        for connection in (self._reader, self._writer, *self._beside):
            connection.close()

    def _read_beside(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._beside.pop()
        try:
            return self._query(connection, ask)
        finally:
            self._beside.append(connection)

    def _query(self, connection: sqlite3.Connection, ask: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return query(connection, ask)
        except StorageFailed as failure:
            self._failures.note(failure)
            raise

    async def _write(self, make: Callable[[Change], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            made, touched = await loop.run_in_executor(self._thread, commit, self._writer, make)
        except StorageFailed as failure:
            self._failures.note(failure)
            raise
        if touched:  # else nothing was written, which a full disk allows, too
            self._failures.end()
        self.watchers.wake(touched)
        return made

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may be gone: nobody else would look at it
