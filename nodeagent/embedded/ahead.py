"""The check of an entry that many others hang on: beside the one writer, and in the write's turn only against what changed meanwhile."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from nodeagent import limits
from nodeagent.catalog.policy.entries import Key
from nodeagent.embedded.asking import Ask
from nodeagent.embedded.config_entries import Check, count_entries, entries_since, kind_topic, would_change
from nodeagent.embedded.database import Change, index_of, newest_index
from nodeagent.embedded.entries import KINDS
from nodeagent.embedded.graph import check_graph, check_meanwhile

Entry = dict[str, Any]
WIDE = ("proxy-defaults", "service-defaults", "service-splitter")
"""Kinds of which one entry may concern all others."""
_TOPICS = tuple(kind_topic(kind) for kind in KINDS)


class _Moved(Exception):
    """More changed meanwhile than is worth a look in the write's turn."""


class Looked(NamedTuple):
    """The state of the entries in which a write was found well."""

    newest: int
    """The number of the last change of all."""
    rows: int

    def check(self, connection: sqlite3.Connection, key: Key, entry: Entry | None) -> None:
        """The rest of `check_graph`.

        Raises:
            BadRequest: it does not go together with what changed meanwhile.
        """
        if index_of(connection, _TOPICS) <= self.newest:
            return
        since = entries_since(connection, self.newest, limits.CATALOG_MEANWHILE + 1)
        is_all = count_entries(connection) == self.rows + sum(is_new for _, is_new in since)  # else some went
        changed = [each for each, _ in since]
        if not is_all or len(changed) > limits.CATALOG_MEANWHILE or key in changed or "proxy-defaults" in {each.kind for each in changed}:
            raise _Moved
        check_meanwhile(connection, key, entry, changed)


async def write_entry(ask: Ask, key: Key, entry: Entry | None, cas: int | None, write: Callable[[Change, Check], bool]) -> bool:
    """What `write` gives, when `key` may say `entry` from now on. It is called with the check that is left to be made.

    Where others change more each time than is worth a look in its turn it is checked there at last, and they wait: who writes one
    thing again and again keeps nobody from writing another.

    Raises:
        BadRequest: as `check_graph`.
        Forbidden: the token was revoked meanwhile.
    """
    store = ask.server.store
    for _ in range(limits.CATALOG_LOOKS if key.kind in WIDE else 0):
        looked = await store.read_aside(ask.caller.accessor, lambda connection: _look(connection, key, entry, cas))
        with suppress(_Moved):
            return await ask.write(_with(looked.check, write))
    return await ask.write(_with(check_graph, write))


def _with(check: Check, write: Callable[[Change, Check], bool]) -> Callable[[Change], bool]:
    return lambda change: write(change, check)


def _look(connection: sqlite3.Connection, key: Key, entry: Entry | None, cas: int | None) -> Looked:
    if would_change(connection, key, entry, cas):
        check_graph(connection, key, entry)
    return Looked(newest_index(connection), count_entries(connection))
