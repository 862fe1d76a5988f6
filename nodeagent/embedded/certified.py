"""On which token's word certificates were signed: who still holds one of a root, and what a revoked token takes with it."""

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from certs.serial import tag_in, tag_of
from nodeagent import limits
from nodeagent.embedded.database import Change
from nodeagent.embedded.refusal import TooLarge

ROOTS = "roots"
"""The topic of what agents are told about the CA: its roots, and whose certificates are revoked."""


class Certified(NamedTuple):
    """A certificate that was signed."""

    accessor: str
    """Of the token on whose word."""
    service: str
    root_id: str
    not_after: float
    """Unix seconds."""


class Held(NamedTuple):
    """A certificate that a host says it holds."""

    service: str
    serial: str
    root_id: str
    not_after: float
    """Unix seconds."""


class Holder(NamedTuple):
    """A host whose newest certificates for some services are of one root and have not ended."""

    node: str
    services: tuple[str, ...]
    until: float
    """Unix seconds at which the last of them ends."""


class Revoked(NamedTuple):
    """A token that was taken back, while certificates or connections of its may be about."""

    tag: str
    """How the serials of its certificates begin."""
    accessor: str
    node: str
    until: float
    """Unix seconds until which agents are told."""


def note_certified(change: Change, made: Certified, now: float) -> None:
    """Remembers a token's newest certificate for a service, if there still is the token.

    Raises:
        TooLarge: the token holds certificates for too many services, or the table is full.
    """
    run = change.connection.execute
    known = run("SELECT 1 FROM certified WHERE accessor = ? AND service = ?", made[:2]).fetchone()
    if not known:
        _make_room(change, made.accessor, now)
    run(
        "INSERT INTO certified SELECT ?1, ?2, ?3, ?4, ?4 WHERE EXISTS (SELECT 1 FROM tokens WHERE accessor = ?1)"
        " ON CONFLICT (accessor, service) DO UPDATE SET"
        " root = excluded.root, not_after = excluded.not_after, until = max(until, excluded.until)",
        made,
    )


def misremembered(connection: sqlite3.Connection, node: str, held: Iterable[Held]) -> list[Certified]:
    """What is remembered of a host's certificates otherwise than the host says, corrected; one that it lost ends at 0.

    It corrects, and adds nothing that was not signed. How long a revocation is told of (`until`) stays as it was.
    """
    said = {(tag_in(each.serial), each.service): each for each in held}
    rows = connection.execute(
        "SELECT accessor, service, root, not_after, certified.until FROM certified JOIN tokens USING (accessor) WHERE node = ?",
        (node,),
    ).fetchall()
    found = []
    for accessor, service, root, not_after, until in rows:
        each = said.get((tag_of(accessor), service))
        right = (each.root_id, min(each.not_after, until)) if each else (root, 0.0)
        if right != (root, not_after):
            found.append(Certified(accessor, service, *right))
    return found


def correct(change: Change, node: str, held: Iterable[Held]) -> None:
    """From now on what the host says is remembered."""
    for made in misremembered(change.connection, node, held):
        change.connection.execute(
            "UPDATE certified SET root = ?3, not_after = ?4 WHERE accessor = ?1 AND service = ?2", made
        )


def note_revoked(change: Change, accessor: str, node: str, now: float) -> None:
    """From now on agents are told that certificates signed on this token's word are worth nothing."""
    run = change.connection.execute
    run("DELETE FROM revoked WHERE until < ?", (now,))
    change.check_room("revoked")
    last = run("SELECT max(until) FROM certified WHERE accessor = ?", (accessor,)).fetchone()[0] or now
    run("DELETE FROM certified WHERE accessor = ?", (accessor,))
    row = (tag_of(accessor), accessor, node, max(last, now) + limits.REVOKED_KEPT_S)
    run("INSERT OR REPLACE INTO revoked VALUES (?, ?, ?, ?)", row)


def read_holders(connection: sqlite3.Connection, root_id: str, now: float) -> list[Holder]:
    """Who holds certificates of a root that are valid at `now`, by host."""
    rows = connection.execute(
        "SELECT node, service, not_after FROM certified JOIN tokens USING (accessor)"
        " WHERE root = ? AND not_after > ? ORDER BY node, service",
        (root_id, now),
    ).fetchall()
    found: dict[str, list[tuple[str, float]]] = {}
    for node, service, not_after in rows:
        found.setdefault(node or "(management)", []).append((service, not_after))
    return [Holder(node, tuple(s for s, _ in held), max(end for _, end in held)) for node, held in found.items()]


def read_speakers(connection: sqlite3.Connection, now: float) -> set[str]:
    """The hosts that hold certificates valid at `now`."""
    rows = connection.execute(
        "SELECT DISTINCT node FROM certified JOIN tokens USING (accessor) WHERE not_after > ? AND kind = 'node'", (now,)
    )
    return {node for (node,) in rows}


def read_nodes(connection: sqlite3.Connection, accessors: Iterable[str]) -> set[str]:
    """The hosts of these tokens."""
    known = dict(connection.execute("SELECT accessor, node FROM tokens WHERE kind = 'node'"))
    return {known[each] for each in accessors if each in known}


def read_revoked(connection: sqlite3.Connection) -> list[Revoked]:
    """What agents are told, oldest end first."""
    return [Revoked(*row) for row in connection.execute("SELECT tag, accessor, node, until FROM revoked ORDER BY until")]


def _make_room(change: Change, accessor: str, now: float) -> None:
    run = change.connection.execute
    count = "SELECT count(*) FROM certified WHERE accessor = ?"
    if run(count, (accessor,)).fetchone()[0] >= limits.CERTIFIED_PER_TOKEN:
        run("DELETE FROM certified WHERE accessor = ? AND until < ?", (accessor, now))
        if run(count, (accessor,)).fetchone()[0] >= limits.CERTIFIED_PER_TOKEN:
            raise TooLarge(f"this token holds certificates for {limits.CERTIFIED_PER_TOKEN} services, which is its limit")
    try:
        change.check_room("certified")
    except TooLarge:
        run("DELETE FROM certified WHERE until < ?", (now,))
        change.check_room("certified")
