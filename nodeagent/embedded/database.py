"""The SQLite file: its tables, how it is opened, and transactions that say what they changed.

Every change takes the next number of one durable index, and notes it for each *topic* it concerns (`service:web`,
`nodes`): that is what blocking queries compare with, so a watch of one service does not wake for another.
"""

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from nodeagent import limits
from nodeagent.embedded.refusal import StorageFailed, TooLarge
from nodeagent.errors import CatalogError

T = TypeVar("T")
V = TypeVar("V")

SCHEMA_VERSION = 3
_SCHEMA = """
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), trust_domain TEXT NOT NULL, datacenter TEXT NOT NULL,
    idx INTEGER NOT NULL) STRICT;
CREATE TABLE topics (topic TEXT PRIMARY KEY, idx INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE nodes (name TEXT PRIMARY KEY, body BLOB NOT NULL, create_index INTEGER NOT NULL,
    modify_index INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE addresses (ip TEXT NOT NULL, node TEXT NOT NULL REFERENCES nodes (name) ON DELETE CASCADE,
    service TEXT NOT NULL, title INTEGER NOT NULL, PRIMARY KEY (ip, node, service)) STRICT, WITHOUT ROWID;
CREATE INDEX addresses_by_owner ON addresses (node, service);
CREATE TABLE services (node TEXT NOT NULL REFERENCES nodes (name) ON DELETE CASCADE, id TEXT NOT NULL,
    name TEXT NOT NULL, body BLOB NOT NULL, create_index INTEGER NOT NULL, modify_index INTEGER NOT NULL,
    PRIMARY KEY (node, id)) STRICT, WITHOUT ROWID;
CREATE INDEX services_by_name ON services (name);
CREATE TABLE entries (kind TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, create_index INTEGER NOT NULL,
    modify_index INTEGER NOT NULL, PRIMARY KEY (kind, name)) STRICT, WITHOUT ROWID;
CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL, flags INTEGER NOT NULL, create_index INTEGER NOT NULL,
    modify_index INTEGER NOT NULL) STRICT;
CREATE TABLE tokens (accessor TEXT PRIMARY KEY, secret_hash BLOB NOT NULL UNIQUE, kind TEXT NOT NULL,
    node TEXT NOT NULL, services TEXT NOT NULL, description TEXT NOT NULL, created_at REAL NOT NULL,
    create_index INTEGER NOT NULL, addresses TEXT NOT NULL, fixed TEXT NOT NULL) STRICT;
CREATE TABLE roots (id TEXT PRIMARY KEY, cert_pem TEXT NOT NULL, key_pem TEXT NOT NULL, active INTEGER NOT NULL,
    create_index INTEGER NOT NULL) STRICT;
CREATE TABLE tls_root (one INTEGER PRIMARY KEY CHECK (one = 1), cert_pem TEXT NOT NULL, key_pem TEXT NOT NULL) STRICT;
"""
_SINCE_2 = """
ALTER TABLE roots ADD COLUMN trusted INTEGER NOT NULL DEFAULT 1;
ALTER TABLE roots ADD COLUMN modify_index INTEGER NOT NULL DEFAULT 0;
CREATE TABLE certified (accessor TEXT NOT NULL, service TEXT NOT NULL, root TEXT NOT NULL, not_after REAL NOT NULL,
    until REAL NOT NULL, PRIMARY KEY (accessor, service)) STRICT, WITHOUT ROWID;
CREATE TABLE revoked (tag TEXT PRIMARY KEY, accessor TEXT NOT NULL, node TEXT NOT NULL, until REAL NOT NULL)
    STRICT, WITHOUT ROWID;
"""
_STEPS = {0: _SCHEMA + _SINCE_2, 2: _SINCE_2}
"""What brings a file of a version up to date."""
_ALWAYS = {
    "maintenance": """CREATE TABLE IF NOT EXISTS maintenance (node TEXT PRIMARY KEY REFERENCES nodes (name) ON DELETE CASCADE,
        reason TEXT NOT NULL) STRICT, WITHOUT ROWID""",
    "checks": """CREATE TABLE IF NOT EXISTS checks (node TEXT NOT NULL REFERENCES nodes (name) ON DELETE CASCADE, id TEXT NOT NULL,
        service TEXT, body BLOB NOT NULL, ttl_s REAL NOT NULL, status TEXT NOT NULL, output TEXT NOT NULL,
        create_index INTEGER NOT NULL, modify_index INTEGER NOT NULL, PRIMARY KEY (node, id),
        FOREIGN KEY (node, service) REFERENCES services (node, id) ON DELETE CASCADE) STRICT, WITHOUT ROWID""",
    "checks_by_service": "CREATE INDEX IF NOT EXISTS checks_by_service ON checks (node, service)",
    "checks_by_ttl": "CREATE INDEX IF NOT EXISTS checks_by_ttl ON checks (node) WHERE ttl_s > 0 AND status != 'critical'",
}
"""What a file of any version may be given, by name: a program that does not know it goes on beside it."""


CURE = (
    "; move its directory away, and put the last snapshot into an empty one: nodeagent catalog snapshot restore FILE --yes."
    " Agents go on with what they know"
)
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
EVERYTHING = "everything"
"""The topic of a restore: nobody's watch is of what it was."""


class Stored(NamedTuple, Generic[V]):
    """A row with the numbers of the changes that made it."""

    value: V
    create_index: int
    modify_index: int


class Change:
    """One transaction that writes. Owned by whoever runs it, until it is committed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.touched: set[str] = set()
        self._index = 0

    @property
    def index(self) -> int:
        """The number of this change; taken when it is first asked for, so that what changes nothing takes none."""
        if not self._index:
            self._index = self.connection.execute("UPDATE state SET idx = idx + 1 RETURNING idx").fetchone()[0]
        return self._index

    def touch(self, *topics: str) -> None:
        """Notes that these topics changed."""
        for topic in topics:
            self.touched.add(topic)
            self.connection.execute("INSERT OR REPLACE INTO topics VALUES (?, ?)", (topic, self.index))

    def end(self, *topics: str) -> None:
        """Notes that these topics' things are gone.

        One number per kind of topic remembers it, not one for each name that ever was: that would fill the disk.
        """
        for topic in topics:
            self.connection.execute("DELETE FROM topics WHERE topic = ?", (topic,))
            self.touch(_gone(topic))
            self.touched.add(topic)

    def check_room(self, table: str) -> None:
        """Nothing, when one more row fits into `table`.

        Raises:
            TooLarge: names the limit.
        """
        count = self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own words
        if count >= limits.CATALOG_ROWS:
            raise TooLarge(f"the catalog holds {count} {table}, which is its limit")


def open_database(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """A connection to the catalog in `path`. An acknowledged write survives a kill and a power cut.

    Raises:
        CatalogError: there is none, or it is not ours or newer than this program.
    """
    if not create and not path.exists():
        raise CatalogError(f"{path}: there is no catalog here; start one with: nodeagent catalog --data {path.parent}")
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=limits.CATALOG_LOCK_S, check_same_thread=False)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        is_whole = _ALWAYS.keys() <= {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    except sqlite3.Error as error:
        raise CatalogError(f"{path}: cannot be opened as a catalog: {error}{cure_of(error)}") from error
    if create and (version in _STEPS or (version == SCHEMA_VERSION and not is_whole)):
        commit(connection, _bring_up_to_date)
    elif version != SCHEMA_VERSION:
        connection.close()
        raise CatalogError(f"{path}: is of version {version}, and this nodeagent knows version {SCHEMA_VERSION}")
    return connection


def check_sound(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the database at `path` was looked through, and nothing was wrong; one beyond CATALOG_CHECKED_BYTES is not.

    What is damaged is found by and by, where it is read: some would be answered as if nothing were wrong with the rest.

    Raises:
        CatalogError: it is damaged; with the cure.
    """
    if path.stat().st_size > limits.CATALOG_CHECKED_BYTES:
        return False
    try:
        fault = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        fault = _name_of(error)
    if fault != "ok":
        raise CatalogError(f"{path}: the catalog's database is damaged ({' '.join(fault.split())}){CURE}")
    return True


def commit(connection: sqlite3.Connection, write: Callable[[Change], T]) -> tuple[T, set[str]]:
    """What `write` gives, and the topics it touched, once all of it is on the disk; else nothing of it is.

    Raises:
        StorageFailed: the disk is full or broken.
    """
    change = Change(connection)
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            made = write(change)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:  # something was raised
                connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise storage_failed(error) from error
    return made, change.touched


def query(connection: sqlite3.Connection, ask: Callable[[sqlite3.Connection], T]) -> T:
    """What `ask` finds in one consistent state of the catalog: the index must not be newer than the rows.

    Raises:
        StorageFailed: the disk is broken.
    """
    try:
        connection.execute("BEGIN")
        try:
            return ask(connection)
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise StorageFailed(f"the catalog's database cannot be read ({_name_of(error)}){cure_of(error)}") from error


def index_of(connection: sqlite3.Connection, topics: Iterable[str]) -> int:
    """The number of the last change of any of these topics; at least 1, as an index of 0 would not block."""
    names = list(topics)
    wanted = [*names, *{_gone(name) for name in names}]
    marks = ",".join("?" * len(wanted))
    found = dict(connection.execute(f"SELECT topic, idx FROM topics WHERE topic IN ({marks})", wanted))  # noqa: S608
    return max((found.get(name, found.get(_gone(name), 1)) for name in names), default=1)


def newest_index(connection: sqlite3.Connection) -> int:
    """The number of the last change of all."""
    return int(connection.execute("SELECT idx FROM state").fetchone()[0])


def restored_by(connection: sqlite3.Connection) -> int:
    """The number of the change that put a snapshot in the place of what was there last; 0: none did."""
    return int(connection.execute("SELECT coalesce(max(idx), 0) FROM topics WHERE topic = ?", (EVERYTHING,)).fetchone()[0])


def topics_since(connection: sqlite3.Connection, index: int) -> list[str]:
    """What was changed after the change of that number."""
    return [topic for (topic,) in connection.execute("SELECT topic FROM topics WHERE idx > ?", (index,))]


def data_version(connection: sqlite3.Connection) -> int:
    """A number that changes when another connection commits, and does not when this one does."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def storage_failed(error: sqlite3.Error) -> StorageFailed:
    """What to tell a writer when SQLite fails."""
    if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
        return StorageFailed("not stored: the disk under the catalog's data is full; reads go on")
    return StorageFailed(f"not stored: the catalog's database failed ({_name_of(error)}){cure_of(error)}")


def cure_of(error: sqlite3.Error) -> str:
    """The end of a message, where SQLite found the file damaged."""
    return CURE if getattr(error, "sqlite_errorname", "").startswith(_DAMAGED) else ""


def _bring_up_to_date(change: Change) -> None:
    version = change.connection.execute("PRAGMA user_version").fetchone()[0]
    for statement in _STEPS.get(version, "").split(";")[:-1]:
        change.connection.execute(statement)
    for statement in _ALWAYS.values():
        change.connection.execute(statement)
    change.connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _gone(topic: str) -> str:
    return "gone:" + topic.partition(":")[0]


def _name_of(error: sqlite3.Error) -> str:
    return f"{getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}"
