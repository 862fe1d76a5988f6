"""The KV table, compare-and-set included."""

import sqlite3
from typing import NamedTuple

from nodeagent import limits
from nodeagent.embedded.database import Change
from nodeagent.embedded.refusal import BadRequest, TooLarge

_LAST = "\U0010ffff"
"""Sorts behind every character that a key may have."""
_GONE = "gone:kv"


class Value(NamedTuple):
    """One key with what it holds."""

    key: str
    value: bytes
    flags: int
    create_index: int
    modify_index: int


def value_topic(key: str) -> str:
    """What a watch of one key waits for."""
    return f"kv:{key}"


def prefix_topic(prefix: str) -> str:
    """What a watch of all keys below a prefix waits for."""
    return f"kv-prefix:{prefix}"


def check_key(key: str) -> str:
    """`key`, when it can be one.

    Raises:
        BadRequest: empty, too long, or with characters that do not print.
    """
    if not key or len(key.encode(errors="replace")) > limits.KV_KEY_BYTES or not key.isprintable():
        raise BadRequest(f"a key has 1 to {limits.KV_KEY_BYTES} bytes of printable characters")
    return key


def put_value(change: Change, key: str, value: bytes, flags: int, cas: int | None = None) -> bool:
    """Stores a value; whether `cas` allowed it (0: only if there is none yet). The same value changes nothing.

    Raises:
        TooLarge: the value or the table is over its limit.
    """
    if len(value) > limits.ENTRY_BYTES:
        raise TooLarge(f"a value of {len(value)} bytes is larger than {limits.ENTRY_BYTES}")
    known = read_value(change.connection, key)
    if cas is not None and cas != (known.modify_index if known else 0):
        return False
    if known is not None and (known.value, known.flags) == (value, flags):
        return True
    if known is None:
        change.check_room("kv")
    index = change.index
    change.connection.execute(
        "INSERT INTO kv VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
        " SET value = excluded.value, flags = excluded.flags, modify_index = excluded.modify_index",
        (key, value, flags, index, index),
    )
    change.touched.add(value_topic(key))
    return True


def delete_value(change: Change, key: str, cas: int | None = None) -> bool:
    """Removes a key; whether `cas` allowed it. What is not there needs no removal, and none fails."""
    known = read_value(change.connection, key)
    if known is None:
        return True
    if cas is not None and cas != known.modify_index:
        return False
    _delete(change, [key])
    return True


def delete_values(change: Change, prefix: str) -> None:
    """Removes every key that begins with `prefix`."""
    _delete(change, read_keys(change.connection, prefix))


def read_value(connection: sqlite3.Connection, key: str) -> Value | None:
    """What one key holds."""
    row = connection.execute(f"{_SELECT} WHERE key = ?", (key,)).fetchone()
    return Value(*row) if row else None


def read_values(connection: sqlite3.Connection, prefix: str) -> list[Value]:
    """What every key that begins with `prefix` holds, by key."""
    rows = connection.execute(f"{_SELECT} WHERE key >= ? AND key < ? ORDER BY key", (prefix, prefix + _LAST))
    return [Value(*row) for row in rows]


def read_keys(connection: sqlite3.Connection, prefix: str, separator: str = "") -> list[str]:
    """Every key that begins with `prefix`; with a separator, only up to its next occurrence."""
    rows = connection.execute("SELECT key FROM kv WHERE key >= ? AND key < ? ORDER BY key", (prefix, prefix + _LAST))
    return list(dict.fromkeys(_cut(key, len(prefix), separator) for (key,) in rows))


def value_index(connection: sqlite3.Connection, key: str) -> int:
    """The number of the last change of one key."""
    known = read_value(connection, key)
    return known.modify_index if known else _gone_index(connection)


def prefix_index(connection: sqlite3.Connection, prefix: str) -> int:
    """The number of the last change below a prefix; removals anywhere count, as nothing is left to remember them."""
    sql = "SELECT max(modify_index) FROM kv WHERE key >= ? AND key < ?"
    newest = connection.execute(sql, (prefix, prefix + _LAST)).fetchone()[0]
    return max(newest or 1, _gone_index(connection))


_SELECT = "SELECT key, value, flags, create_index, modify_index FROM kv"


def _delete(change: Change, keys: list[str]) -> None:
    for key in keys:
        change.connection.execute("DELETE FROM kv WHERE key = ?", (key,))
        change.touch(_GONE)
        change.touched.add(value_topic(key))


def _gone_index(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT idx FROM topics WHERE topic = ?", (_GONE,)).fetchone()
    return row[0] if row else 1


def _cut(key: str, begin: int, separator: str) -> str:
    end = key.find(separator, begin) if separator else -1
    return key if end < 0 else key[: end + len(separator)]
