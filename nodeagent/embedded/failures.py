"""A disk that fails under the catalog: what the log is told of it, and when nothing more is written."""

import sqlite3
from collections.abc import Callable

from nodeagent import limits
from nodeagent.embedded.refusal import StorageFailed
from nodeagent.observe.log import open_log

UNTRUSTED = ("SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC", "SQLITE_CORRUPT", "SQLITE_NOTADB")
"""After a failed fsync the kernel may drop what it could not write and call it clean: what the file holds is unknown."""


class Failures:
    """Owned by the store; read and written in its threads. A kind of failure is told at once, then every CATALOG_FAILURES_S how often it was."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.broken = ""
        """Why nothing more is written until a restart; empty: it is tried."""
        self._clock = clock
        self._told: dict[str, float] = {}
        """When each kind was told last, by SQLite's name of it."""
        self._failed_at: float | None = None
        """The last time; None: the disk is well, and the log has it."""
        self._untold = 0

    def note(self, failure: StorageFailed) -> None:
        """Something could not be read or written."""
        name = name_of(failure)
        if name.startswith(UNTRUSTED):
            self.broken = f"the disk failed ({name})"
        now = self._failed_at = self._clock()
        told_at = self._told.get(name)
        if told_at is not None and now - told_at < limits.CATALOG_FAILURES_S:
            self._untold += 1
            return
        self._told[name] = now
        untold, self._untold = self._untold, 0
        open_log().error("catalog_storage_failed", error=str(failure), read_only=bool(self.broken), untold=untold)

    def end(self) -> None:
        """Something was stored. The disk is well again when nothing fails beside it: on a full one small writes find room, and large ones none."""
        failed_at = self._failed_at
        if failed_at is None or self.broken or self._clock() - failed_at < limits.CATALOG_FAILURES_S:
            return
        open_log().warning("catalog_storage_well", untold=self._untold)
        self._told, self._untold, self._failed_at = {}, 0, None


def name_of(failure: StorageFailed) -> str:
    """SQLite's name of what failed."""
    cause = failure.__cause__
    return str(getattr(cause, "sqlite_errorname", "")) if isinstance(cause, sqlite3.Error) else ""
