"""A snapshot in the place of what a catalog holds: one transaction, so all of it or nothing, also beside a running server.

What goes back is the data: hosts, services, entries, keys. Trust does not go back where there is a catalog of the same trust
domain: its tokens, its roots and its revocations stay, or a token that was taken back and a root that was given up would
be believed again. Nor do trails of policy: what is undone shows in them as a change from elsewhere. An empty directory gets everything.

The index goes on from the greater of both, and every row and topic gets it: whoever waits is answered, and no number means
two things. Only an empty directory begins at the snapshot's, so there it goes back for clients, as Consul's does: whatever was
changed since has a lower number than who watched it knows, and so is noticed.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodeagent.catalog.policy.entries import AUDIT_PREFIX
from nodeagent.embedded.archive import About
from nodeagent.embedded.database import EVERYTHING, Change, commit
from nodeagent.embedded.registrations import REGISTRATIONS
from nodeagent.errors import CatalogError

_DATA = ("nodes", "addresses", "services", "maintenance", "checks", "entries", "kv")
"""In an order in which rows find what they refer to."""
_IS_TRAIL = f"(key >= '{AUDIT_PREFIX}/' AND key < '{AUDIT_PREFIX}0')"  # 0 follows /
_TRUST = ("state", "tokens", "roots", "tls_root", "certified", "revoked")
_MARKED = ("nodes", "services", "checks", "entries", "kv")


def is_whole(connection: sqlite3.Connection, about: About) -> bool:
    """Whether there is no catalog here, so that trust comes from the snapshot, too.

    Raises:
        CatalogError: there is another one than the snapshot's.
    """
    present = connection.execute("SELECT trust_domain, datacenter FROM state").fetchone()
    if present not in (None, (about.trust_domain, about.datacenter)):
        raise CatalogError(
            f"here is the catalog of {present[0]} in {present[1]}, and the snapshot is of {about.trust_domain} in"
            f" {about.datacenter}: restore it into an empty directory"
        )
    return present is None


def restore(connection: sqlite3.Connection, raw: Path, about: About) -> bool:
    """Puts the database at `raw` in the place of the catalog's data; whether trust came with it.

    Raises:
        CatalogError: it is another catalog's.
        StorageFailed: the disk is full or broken, and nothing was changed.
    """
    with _beside(connection, raw):
        return commit(connection, lambda change: _replace(change, about))[0]


def count_kept(connection: sqlite3.Connection, raw: Path) -> int:
    """How many keys stay that the database at `raw` has not: trails of policy."""
    with _beside(connection, raw):
        (count,) = connection.execute(f"SELECT count(*) FROM main.kv WHERE {_IS_TRAIL} AND key NOT IN (SELECT key FROM snap.kv)").fetchone()  # noqa: S608
    return int(count)


@contextmanager
def _beside(connection: sqlite3.Connection, raw: Path) -> Iterator[None]:
    connection.execute("ATTACH ? AS snap", (str(raw),))
    try:
        yield
    finally:
        connection.execute("DETACH snap")


def _replace(change: Change, about: About) -> bool:
    whole = is_whole(change.connection, about)
    for table in reversed(_DATA):
        stays = f" WHERE NOT {_IS_TRAIL}" if table == "kv" else ""
        change.connection.execute(f"DELETE FROM main.{table}{stays}")  # noqa: S608 - our own words, here and below
    for table in (*_TRUST, *_DATA) if whole else _DATA:
        new = " WHERE key NOT IN (SELECT key FROM main.kv)" if table == "kv" else ""
        change.connection.execute(f"INSERT INTO main.{table} SELECT * FROM snap.{table}{new}")  # noqa: S608
    if whole:
        change.connection.execute("INSERT INTO main.topics SELECT * FROM snap.topics")
    else:
        _mark_all(change)
    return whole


def _mark_all(change: Change) -> None:
    """Gives everything a new index: what is remembered of kinds of things stands for each of them."""
    run = change.connection.execute
    run("UPDATE main.state SET idx = max(idx, (SELECT idx FROM snap.state))")
    for table in _MARKED:
        run(f"UPDATE main.{table} SET modify_index = ?", (change.index,))  # noqa: S608
    topics = [row[0] for row in run("SELECT topic FROM main.topics UNION SELECT topic FROM snap.topics")]
    run("DELETE FROM main.topics")
    kinds = {topic.removeprefix("gone:").partition(":")[0] for topic in topics} | {"kv", REGISTRATIONS}
    change.touch(EVERYTHING, *(f"gone:{kind}" for kind in sorted(kinds)))
