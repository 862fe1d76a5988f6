"""A disk that fails under the catalog: what the log is told of it, and when nothing more is written."""

import sqlite3
from collections.abc import Callable

from nodeagent import limits
from nodeagent.embedded.refusal import StorageFailed
from nodeagent.observe.log import open_log

UNTRUSTED = ("SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC", "SQLITE_CORRUPT", "SQLITE_NOTADB")
"""After a failed fsync the kernel may drop what it could not write and call it clean: what the file holds is unknown."""


class Failures:
    """Owned by the store. A kind of failure is told at once, then every CATALOG_FAILURES_S how often it was."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.broken = ""
        """Why nothing more is written until a restart; empty: it is tried."""
        self._clock = clock
        self._told: dict[str, float] = {}
        """When each kind was told last, by SQLite's name of it; empty: the disk is well."""
        self._untold = 0

    def note(self, failure: StorageFailed) -> None:
        """Something could not be read or written."""
        name = name_of(failure)
        if name.startswith(UNTRUSTED):
            self.broken = f"the disk failed ({name})"
        now = self._clock()
        if name in self._told and now - self._told[name] < limits.CATALOG_FAILURES_S:
            self._untold += 1
            return
        self._told[name] = now
        untold, self._untold = self._untold, 0
        open_log().error("catalog_storage_failed", error=str(failure), read_only=bool(self.broken), untold=untold)

    def end(self) -> None:
        """Something was written: the disk is well again."""
        if self._told and not self.broken:
            open_log().warning("catalog_storage_well", untold=self._untold)
            self._told, self._untold = {}, 0


def name_of(failure: StorageFailed) -> str:
    """SQLite's name of what failed."""
    cause = failure.__cause__
    return str(getattr(cause, "sqlite_errorname", "")) if isinstance(cause, sqlite3.Error) else ""
