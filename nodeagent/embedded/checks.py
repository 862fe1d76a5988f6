"""The table of checks: what is to be looked at, how it is, and which watches a change of that concerns."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from nodeagent import limits
from nodeagent.embedded.access import Caller, RegisterService, WriteNode, check_access
from nodeagent.embedded.check import LOOKED_AT, CheckRow, Registered, Status, cut
from nodeagent.embedded.claims import as_stored, ips_of
from nodeagent.embedded.database import Change
from nodeagent.embedded.refusal import BadRequest, Forbidden, NotFound, TooLarge
from nodeagent.embedded.registration import ServiceRow
from nodeagent.embedded.registrations import (
    CHECKS,
    REGISTRATIONS,
    node_topic,
    read_names_of,
    read_node,
    read_service,
    service_topic,
)

_SELECT = (
    "SELECT c.body, c.status, c.output, c.create_index, c.modify_index, s.body FROM checks c"
    " LEFT JOIN services s ON s.node = c.node AND s.id = c.service"
)
_OF_INSTANCES = "WHERE s.name = ? ORDER BY c.node, c.id"
_OF_HOSTS = "WHERE c.service IS NULL AND c.node IN (SELECT node FROM services WHERE name = ?) ORDER BY c.node, c.id"


class Health(NamedTuple):
    """A check and how it is."""

    row: CheckRow
    status: Status
    output: str
    create_index: int
    modify_index: int
    service: ServiceRow | None
    """None: it is about the host."""


def put_checks(change: Change, caller: Caller, asked: Iterable[Registered]) -> None:
    """Stores checks; one that is there keeps how it is, so that whoever registers again disturbs nothing.

    Raises:
        Forbidden: not the caller's to register, or its ID is another's.
        BadRequest: its host or service is not registered, or it looks at another host than its own.
        TooLarge: the host has its share of them.
    """
    caller = as_stored(change, caller)
    for each in asked:
        _check_place(change, caller, each.row)
        _put(change, caller, each)


def keep_checks(change: Change, service: ServiceRow, kept: Iterable[Registered]) -> None:
    """Removes the instance's checks but these."""
    ids = {each.row.id for each in kept}
    for row in change.connection.execute(f"{_SELECT} WHERE c.node = ? AND c.service = ?", (service.node, service.id)).fetchall():
        if (health := _health(row)).row.id not in ids:
            _delete(change, health)


def remove_check(change: Change, caller: Caller, node: str, check_id: str) -> None:
    """Removes one check.

    Raises:
        NotFound: there is none of that ID.
        Forbidden: not the caller's to remove.
    """
    _delete(change, entitled(change.connection, as_stored(change, caller), node, check_id))


def tell(change: Change, caller: Caller, node: str, check_id: str, status: Status, output: str) -> Health:
    """Notes how a check is; what is known already is not written again. Gives the check as it was.

    Raises:
        NotFound, Forbidden: as `remove_check`.
    """
    known = entitled(change.connection, as_stored(change, caller), node, check_id)
    note(change, known, status, output)
    return known


def note(change: Change, known: Health, status: Status, output: str) -> None:
    """Notes how a check is, whoever says so."""
    if (known.status, known.output) == (status, output):
        return
    change.connection.execute(
        "UPDATE checks SET status = ?, output = ?, modify_index = ? WHERE node = ? AND id = ?",
        (status, output, change.index, known.row.node, known.row.id),
    )
    _touch(change, known.row)


def end(change: Change, known: Health, why: str) -> None:
    """Makes a check critical of which nobody says how it is; what was said last stays readable, as with Consul."""
    note(change, known, "critical", cut(f"{why}; before: {known.output}" if known.output else why))


def entitled(connection: sqlite3.Connection, caller: Caller, node: str, check_id: str) -> Health:
    """The check, if it is the caller's: a host's token is for all of its own, as its agent looks at them.

    Whose it is otherwise says its service, which only the table knows.

    Raises:
        NotFound, Forbidden: as `remove_check`.
    """
    known = read_check(connection, node, check_id)
    service = known.service if known is not None and caller.kind != "node" else None
    check_access(caller, RegisterService(node, service.name) if service else WriteNode(node))
    if known is None:
        raise NotFound(f"{node} has no check with the ID {check_id!r}: give the CheckID, such as service:web")
    return known


def read_timed(connection: sqlite3.Connection) -> list[tuple[str, str, float]]:
    """Host, CheckID and TTL of all that are well only as long as they say so, and are not critical yet."""
    return connection.execute("SELECT node, id, ttl_s FROM checks WHERE ttl_s > 0 AND status != 'critical'").fetchall()


def read_untimed(connection: sqlite3.Connection) -> list[str]:
    """Hosts with something that is not critical, and needs nobody's word: an agent may look at it."""
    return [node for (node,) in connection.execute("SELECT DISTINCT node FROM checks WHERE ttl_s = 0 AND status != 'critical'")]


def read_check(connection: sqlite3.Connection, node: str, check_id: str) -> Health | None:
    """One check."""
    row = connection.execute(f"{_SELECT} WHERE c.node = ? AND c.id = ?", (node, check_id)).fetchone()
    return _health(row) if row else None


def read_checks_of(connection: sqlite3.Connection, node: str) -> list[Health]:
    """All checks of one host and of what runs there, by ID."""
    return [_health(row) for row in connection.execute(f"{_SELECT} WHERE c.node = ? ORDER BY c.id", (node,))]


def read_checks(connection: sqlite3.Connection) -> list[Health]:
    """All checks, by host and ID."""
    return [_health(row) for row in connection.execute(f"{_SELECT} ORDER BY c.node, c.id")]


def read_checks_for(connection: sqlite3.Connection, service: str) -> dict[tuple[str, str], list[Health]]:
    """What is looked at of one service's instances, and of their hosts, by host and instance; of the host itself: with ''."""
    found: defaultdict[tuple[str, str], list[Health]] = defaultdict(list)
    own = connection.execute(f"{_SELECT} {_OF_INSTANCES}", (service,))
    for row in (*own, *connection.execute(f"{_SELECT} {_OF_HOSTS}", (service,))):
        health = _health(row)
        found[health.row.node, health.row.service_id].append(health)
    return found


def check_json(health: Health) -> dict[str, Any]:
    """A check, as Consul shows it. What it looks at is not there: anybody may read this, and its headers may hold a secret."""
    row, service = health.row, health.service
    return {
        "Node": row.node, "CheckID": row.id, "Name": row.name, "Status": health.status, "Notes": row.notes, "Output": health.output,
        "ServiceID": row.service_id, "ServiceName": service.name if service else "", "ServiceTags": service.tags if service else [],
        "Type": row.kind, "Definition": {}, "CreateIndex": health.create_index, "ModifyIndex": health.modify_index,
    }  # fmt: skip


def _check_place(change: Change, caller: Caller, row: CheckRow) -> None:
    """Nothing, where the caller may have this looked at, and it is of the host that looks."""
    if read_node(change.connection, row.node) is None:
        raise BadRequest(f"{row.node} is not registered: the agent there does it when it starts")
    service = read_service(change.connection, row.node, row.service_id) if row.service_id else None
    if row.service_id and service is None:
        raise BadRequest(f"{row.node} has no service with the ID {row.service_id!r}: register it first")
    check_access(caller, RegisterService(row.node, service.value.name) if service else WriteNode(row.node))
    if row.kind in LOOKED_AT and caller.kind == "service":
        raise Forbidden(f"{caller} may not have the agent of {row.node} look at something: that takes the token of that host; use a TTL")
    if row.ip and not row.ip.startswith("127.") and row.ip != "::1" and row.ip not in ips_of(change.connection, row.node):
        raise BadRequest(f"{row.ip} is no address of {row.node}: its agent looks at its own host only")


def _put(change: Change, caller: Caller, asked: Registered) -> None:
    known = read_check(change.connection, asked.row.node, asked.row.id)
    is_told = not asked.row.kind
    if known is not None and known.row == asked.row and (not is_told or (known.status, known.output) == (asked.status, asked.output)):
        return
    body = msgspec.json.encode(asked.row)
    if len(body) > limits.CATALOG_ROW_BYTES:
        raise TooLarge(f"{asked.row.id}: {len(body)} bytes of texts and headers, more than {limits.CATALOG_ROW_BYTES}")
    is_moved = known is not None and known.row.service_id != asked.row.service_id
    if known is None or is_moved:
        _check_share(change, asked.row)
    if known is not None and is_moved:  # its ID would become another's
        _delete(change, entitled(change.connection, caller, asked.row.node, asked.row.id))
    is_kept = not (is_told or is_moved)  # as with Consul: who changes an interval takes no instance out until the next look
    status, output = (known.status, known.output) if known and is_kept else (asked.status, asked.output)
    change.connection.execute(
        "INSERT INTO checks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (node, id) DO UPDATE SET body = excluded.body,"
        " ttl_s = excluded.ttl_s, status = excluded.status, output = excluded.output, modify_index = excluded.modify_index",
        (asked.row.node, asked.row.id, asked.row.service_id or None, body, asked.row.ttl_s, status, output, change.index, change.index),
    )
    _touch(change, asked.row)


def _check_share(change: Change, row: CheckRow) -> None:
    change.check_room("checks")
    count = change.connection.execute(
        "SELECT count(*) FROM checks WHERE node = ? AND service IS ?", (row.node, row.service_id or None)
    ).fetchone()[0]
    if count >= limits.CHECKS_PER_SERVICE:
        raise TooLarge(f"{row.service_id or row.node} has {count} checks, which is the limit")


def _delete(change: Change, known: Health) -> None:
    change.connection.execute("DELETE FROM checks WHERE node = ? AND id = ?", (known.row.node, known.row.id))
    _touch(change, known.row)


def _touch(change: Change, row: CheckRow) -> None:
    """A check of the host is about all that runs there."""
    names = read_names_of(change.connection, row.node, row.service_id)
    change.touch(CHECKS, REGISTRATIONS, node_topic(row.node), *(service_topic(name) for name in names))


def _health(row: tuple[bytes, Status, str, int, int, bytes | None]) -> Health:
    service = msgspec.json.decode(row[5], type=ServiceRow) if row[5] else None
    return Health(msgspec.json.decode(row[0], type=CheckRow), row[1], row[2], row[3], row[4], service)
