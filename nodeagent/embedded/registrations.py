"""The tables of hosts and services: what is written, what is read, and which watches it concerns."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

import msgspec

from nodeagent import limits
from nodeagent.embedded.database import Change, Stored
from nodeagent.embedded.refusal import BadRequest, TooLarge
from nodeagent.embedded.registration import NodeRow, ServiceRow

R = TypeVar("R", NodeRow, ServiceRow)

NODES = "nodes"
SERVICES = "services"
"""Topic of the list of names and tags: not of addresses."""
CHECKS = "checks"
"""Topic of everybody's checks."""
REGISTRATIONS = "registrations"
"""Topic of all of it: hosts, their services and their checks."""


def node_topic(node: str) -> str:
    """What a watch of one host's services waits for."""
    return f"node:{node}"


def service_topic(service: str) -> str:
    """What a watch of one service's instances, and of their hosts, waits for."""
    return f"service:{service}"


def put_node(change: Change, row: NodeRow) -> None:
    """Stores a host; the same row again changes nothing.

    Raises:
        TooLarge: the row is too large, or the table is full.
    """
    known = read_node(change.connection, row.name)
    if known is not None and known.value == row:
        return
    if known is None:
        change.check_room("nodes")
    body, index = _body(row), change.index
    change.connection.execute(
        "INSERT INTO nodes VALUES (?, ?, ?, ?) ON CONFLICT (name)"
        " DO UPDATE SET body = excluded.body, modify_index = excluded.modify_index",
        (row.name, body, index, index),
    )
    services = {stored.value.name for stored in read_services_of(change.connection, row.name)}
    change.touch(NODES, REGISTRATIONS, node_topic(row.name), *(service_topic(name) for name in services))


def put_service(change: Change, row: ServiceRow) -> None:
    """Stores an instance; the same row again changes nothing.

    Raises:
        BadRequest: its host is not registered.
        TooLarge: the row is too large, or the table or the host's share of it is full.
    """
    if read_node(change.connection, row.node) is None:
        raise BadRequest(
            f"{row.node} is not registered: the agent there does it when it starts (PUT /v1/catalog/register)"
        )
    known = read_service(change.connection, row.node, row.id)
    if known is not None and known.value == row:
        return
    if known is None:
        _check_share(change, row.node)
    body, index = _body(row), change.index
    change.connection.execute(
        "INSERT INTO services VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (node, id)"
        " DO UPDATE SET name = excluded.name, body = excluded.body, modify_index = excluded.modify_index",
        (row.node, row.id, row.name, body, index, index),
    )
    change.touch(service_topic(row.name), node_topic(row.node), REGISTRATIONS)
    if known is None or (known.value.name, known.value.tags) != (row.name, row.tags):
        change.touch(SERVICES)
    if known is not None and known.value.name != row.name:
        _end_or_touch(change, known.value.name)


def delete_node(change: Change, node: str) -> bool:
    """Removes a host and its services; whether there was one."""
    if read_node(change.connection, node) is None:
        return False
    services = {stored.value.name for stored in read_services_of(change.connection, node)}
    _end_checks(change, "node = ?", node)
    if change.connection.execute("SELECT 1 FROM maintenance WHERE node = ?", (node,)).fetchone():
        change.touch(CHECKS)  # it is shown among them
    change.connection.execute("DELETE FROM nodes WHERE name = ?", (node,))
    change.touch(NODES, REGISTRATIONS)
    change.end(node_topic(node))
    for name in sorted(services):
        _end_or_touch(change, name)
    if services:
        change.touch(SERVICES)
    return True


def delete_service(change: Change, node: str, service_id: str) -> bool:
    """Removes one instance; whether there was one."""
    known = read_service(change.connection, node, service_id)
    if known is None:
        return False
    _end_checks(change, "node = ? AND service = ?", node, service_id)
    change.connection.execute("DELETE FROM services WHERE node = ? AND id = ?", (node, service_id))
    change.connection.execute("DELETE FROM addresses WHERE node = ? AND service = ?", (node, service_id))
    change.touch(node_topic(node), SERVICES, REGISTRATIONS)
    _end_or_touch(change, known.value.name)
    return True


def read_node(connection: sqlite3.Connection, node: str) -> Stored[NodeRow] | None:
    """One host."""
    row = connection.execute("SELECT body, create_index, modify_index FROM nodes WHERE name = ?", (node,)).fetchone()
    return _stored(row, NodeRow) if row else None


def read_nodes(connection: sqlite3.Connection) -> list[Stored[NodeRow]]:
    """All hosts, by name."""
    rows = connection.execute("SELECT body, create_index, modify_index FROM nodes ORDER BY name")
    return [_stored(row, NodeRow) for row in rows]


def read_service(connection: sqlite3.Connection, node: str, service_id: str) -> Stored[ServiceRow] | None:
    """One instance."""
    sql = "SELECT body, create_index, modify_index FROM services WHERE node = ? AND id = ?"
    row = connection.execute(sql, (node, service_id)).fetchone()
    return _stored(row, ServiceRow) if row else None


def read_services_of(connection: sqlite3.Connection, node: str) -> list[Stored[ServiceRow]]:
    """All instances on one host, by ID."""
    sql = "SELECT body, create_index, modify_index FROM services WHERE node = ? ORDER BY id"
    return [_stored(row, ServiceRow) for row in connection.execute(sql, (node,))]


def read_names_of(connection: sqlite3.Connection, node: str, service_id: str = "") -> list[str]:
    """The names of what runs on one host, or of one instance there; no row is decoded for that."""
    which, values = ("AND id = ?", (node, service_id)) if service_id else ("", (node,))
    rows = connection.execute(f"SELECT DISTINCT name FROM services WHERE node = ? {which} ORDER BY name", values)  # noqa: S608 - our own words
    return [name for (name,) in rows]


def read_instances(connection: sqlite3.Connection, service: str) -> list[tuple[Stored[NodeRow], Stored[ServiceRow]]]:
    """All instances of one service with their hosts, by host and ID."""
    rows = connection.execute(
        "SELECT n.body, n.create_index, n.modify_index, s.body, s.create_index, s.modify_index"
        " FROM services s JOIN nodes n ON n.name = s.node WHERE s.name = ? ORDER BY s.node, s.id",
        (service,),
    )
    return [(_stored(row[:3], NodeRow), _stored(row[3:], ServiceRow)) for row in rows]


def read_names(connection: sqlite3.Connection, is_meant: Callable[[NodeRow], bool] | None = None) -> dict[str, list[str]]:
    """Every service's name with all its instances' tags; where `is_meant` is given, of instances on such hosts alone."""
    meant = None if is_meant is None else {node.value.name for node in read_nodes(connection) if is_meant(node.value)}
    found: defaultdict[str, set[str]] = defaultdict(set)
    for node, name, body in connection.execute("SELECT node, name, body FROM services ORDER BY name"):
        if meant is None or node in meant:
            found[name].update(msgspec.json.decode(body, type=ServiceRow).tags)
    return {name: sorted(tags) for name, tags in found.items()}


def _body(row: NodeRow | ServiceRow) -> bytes:
    body = msgspec.json.encode(row)
    if len(body) > limits.CATALOG_ROW_BYTES:
        raise TooLarge(
            f"{row.name}: {len(body)} bytes of tags, meta and addresses, more than {limits.CATALOG_ROW_BYTES}"
        )
    return body


def _check_share(change: Change, node: str) -> None:
    change.check_room("services")
    count = change.connection.execute("SELECT count(*) FROM services WHERE node = ?", (node,)).fetchone()[0]
    if count >= limits.CATALOG_SERVICES_PER_HOST:
        raise TooLarge(f"{node} has {count} services registered, which is the limit for one host")


def _end_checks(change: Change, which: str, *values: str) -> None:
    if change.connection.execute(f"DELETE FROM checks WHERE {which}", values).rowcount:  # noqa: S608 - our own words
        change.touch(CHECKS)


def _end_or_touch(change: Change, service: str) -> None:
    """Notes that an instance of `service` went; whether it was the last one."""
    left = change.connection.execute("SELECT 1 FROM services WHERE name = ? LIMIT 1", (service,)).fetchone()
    if left:
        change.touch(service_topic(service))
    else:
        change.end(service_topic(service))


def _stored(row: tuple[bytes, int, int], shape: type[R]) -> Stored[R]:
    return Stored(msgspec.json.decode(row[0], type=shape), row[1], row[2])
