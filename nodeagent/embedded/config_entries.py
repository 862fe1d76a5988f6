"""The table of config entries, compare-and-set included."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from nodeagent.catalog.policy.entries import Key
from nodeagent.embedded.database import Change, Stored
from nodeagent.embedded.entries import INTENTIONS
from nodeagent.embedded.intentions import Row, rows_of
from nodeagent.model.intention import ANY

Entry = dict[str, Any]
Check = Callable[[sqlite3.Connection, Key, Entry | None], None]
"""Asked ahead of a change: raises where it may not be."""


def check_nothing(_connection: sqlite3.Connection, _key: Key, _entry: Entry | None) -> None:
    """Everything may be."""


def kind_topic(kind: str) -> str:
    """What a watch of all entries of a kind waits for."""
    return f"entries:{kind}"


def entry_topic(kind: str, name: str) -> str:
    """What a watch of one entry waits for."""
    return f"entry:{kind}/{name}"


def put_entry(change: Change, entry: Entry, cas: int | None = None, check: Check = check_nothing) -> bool:
    """Stores an entry; whether `cas` allowed it (0: only if there is none yet). The same entry changes nothing.

    check: asked where something would change, which costs more.

    Raises:
        TooLarge: the table is full.
        BadRequest: `check` did.
    """
    kind, name = entry["Kind"], entry["Name"]
    known = read_entry(change.connection, kind, name)
    if not _fits(known, cas):
        return False
    if known is not None and known.value == entry:
        return True
    check(change.connection, Key(kind, name), entry)
    if known is None:
        change.check_room("entries")
    index = change.index
    change.connection.execute(
        "INSERT INTO entries VALUES (?, ?, ?, ?, ?) ON CONFLICT (kind, name)"
        " DO UPDATE SET body = excluded.body, modify_index = excluded.modify_index",
        (kind, name, msgspec.json.encode(entry), index, index),
    )
    change.touch(kind_topic(kind), entry_topic(kind, name))
    return True


def delete_entry(change: Change, kind: str, name: str, cas: int | None = None, check: Check = check_nothing) -> bool:
    """Removes an entry; whether `cas` allowed it, which of what is not there it does not. check: as for `put_entry`."""
    known = read_entry(change.connection, kind, name)
    if not _fits(known, cas) or (known is None and cas is not None):
        return False
    if known is not None:
        check(change.connection, Key(kind, name), None)
        change.connection.execute("DELETE FROM entries WHERE kind = ? AND name = ?", (kind, name))
        change.touch(kind_topic(kind))
        change.end(entry_topic(kind, name))
    return True


def would_change(connection: sqlite3.Connection, key: Key, entry: Entry | None, cas: int | None) -> bool:
    """Whether `put_entry`, or with None `delete_entry`, would change anything now."""
    known = read_entry(connection, key.kind, key.name)
    return _fits(known, cas) and (known.value if known else None) != entry


def entries_since(connection: sqlite3.Connection, index: int, most: int) -> list[tuple[Key, bool]]:
    """Entries that were written after the change of that number, as many as `most`, and whether each was new."""
    sql = "SELECT kind, name, create_index FROM entries WHERE modify_index > ? LIMIT ?"
    return [(Key(kind, name), created > index) for kind, name, created in connection.execute(sql, (index, most))]


def count_entries(connection: sqlite3.Connection) -> int:
    """How many there are, of all kinds."""
    return int(connection.execute("SELECT count(*) FROM entries").fetchone()[0])


def read_entry(connection: sqlite3.Connection, kind: str, name: str) -> Stored[Entry] | None:
    """One entry."""
    sql = "SELECT body, create_index, modify_index FROM entries WHERE kind = ? AND name = ?"
    row = connection.execute(sql, (kind, name)).fetchone()
    return _stored(row) if row else None


def read_entries(connection: sqlite3.Connection, kind: str) -> list[Stored[Entry]]:
    """All entries of a kind, by name."""
    sql = "SELECT body, create_index, modify_index FROM entries WHERE kind = ? ORDER BY name"
    return [_stored(row) for row in connection.execute(sql, (kind,))]


def read_body(connection: sqlite3.Connection, kind: str, name: str) -> bytes | None:
    """What is stored of one entry, as it is stored."""
    row = connection.execute("SELECT body FROM entries WHERE kind = ? AND name = ?", (kind, name)).fetchone()
    return row[0] if row else None


def find_keys(connection: sqlite3.Connection, kinds: Sequence[str], word: str | None = None) -> list[Key]:
    """The entries of some kinds, by kind and name; where a word is given: of those in which it stands as a text or key."""
    sql = f"SELECT kind, name FROM entries WHERE kind IN ({', '.join('?' * len(kinds))})"  # noqa: S608 - question marks
    if word is None:
        return [Key(*row) for row in connection.execute(f"{sql} ORDER BY kind, name", kinds)]
    return [Key(*row) for row in connection.execute(f"{sql} AND instr(body, ?) ORDER BY kind, name", (*kinds, msgspec.json.encode(word)))]


def read_intentions(connection: sqlite3.Connection) -> list[Row]:
    """Every row of every service-intentions entry."""
    return [row for stored in read_entries(connection, INTENTIONS) for row in rows_of(*stored)]


def read_intentions_to(connection: sqlite3.Connection, destination: str) -> list[Row]:
    """The rows that can decide who reaches `destination`: its own entry's and the wildcard's."""
    found = [read_entry(connection, INTENTIONS, name) for name in dict.fromkeys((destination, ANY))]
    return [row for stored in found if stored for row in rows_of(*stored)]


def intention_topics(destination: str) -> tuple[str, ...]:
    """What a watch of `read_intentions_to` waits for."""
    return entry_topic(INTENTIONS, destination), entry_topic(INTENTIONS, ANY)


def _fits(known: Stored[Entry] | None, cas: int | None) -> bool:
    return cas is None or cas == (known.modify_index if known else 0)


def _stored(row: tuple[bytes, int, int]) -> Stored[Entry]:
    return Stored(msgspec.json.decode(row[0]), row[1], row[2])
