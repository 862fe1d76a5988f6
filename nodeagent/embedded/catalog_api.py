"""/v1/catalog, /v1/health, /v1/status: hosts, services and their instances."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from nodeagent.embedded.access import ReadMesh, RegisterService, WriteNode
from nodeagent.embedded.answers import Json, flat_json, health_json, node_json, service_json
from nodeagent.embedded.asking import Answer, Ask, Watch, encoded, watch
from nodeagent.embedded.check import parse_told, take_checks
from nodeagent.embedded.checks import check_json, put_checks, read_checks_for, read_checks_of, remove_check
from nodeagent.embedded.claims import Holder, register_node, register_service, remove_service
from nodeagent.embedded.database import Change, Stored, index_of
from nodeagent.embedded.filters import CHECK, FLAT, HEALTH, NODE, SERVICE, chosen, on_nodes
from nodeagent.embedded.kept import unpacked
from nodeagent.embedded.maintenance import checks_json, read_reasons
from nodeagent.embedded.refusal import BadRequest, NotFound
from nodeagent.embedded.registration import NodeRow, ServiceRow, parse_registration, parse_removal
from nodeagent.embedded.registrations import (
    NODES,
    REGISTRATIONS,
    SERVICES,
    delete_node,
    node_topic,
    read_instances,
    read_names,
    read_node,
    read_nodes,
    read_services_of,
    service_topic,
)
from nodeagent.observe.log import open_log


async def register(ask: Ask) -> Answer:
    """PUT /v1/catalog/register."""
    body, told = take_checks(without_token(await ask.json(), ask.secret))
    asked = parse_registration(body, ask.server.realm.datacenter)
    checks = parse_told(told, asked.node, asked.service_row.id if asked.service_row else "")
    if asked.node_row is not None or (asked.service_row is None and not checks):
        ask.check(WriteNode(asked.node))
    if asked.service_row is not None:
        ask.check(RegisterService(asked.node, asked.service_row.name))

    def make(change: Change) -> list[Holder]:
        gone = [] if asked.node_row is None else register_node(change, ask.caller, asked.node_row)
        gone += [] if asked.service_row is None else register_service(change, ask.caller, asked.service_row)
        put_checks(change, ask.caller, checks)
        return gone

    note_displaced(ask, await ask.write(make))
    return Answer(body=True)


async def deregister(ask: Ask) -> Answer:
    """PUT /v1/catalog/deregister: a host with all its services, or one service, or one check; of both the service, as with Consul."""
    asked = parse_removal(without_token(await ask.json(), ask.secret), ask.server.realm.datacenter)
    if asked.service_id:
        await ask.write(lambda change: remove_service(change, ask.caller, asked.node, asked.service_id))
    elif asked.check_id:
        with suppress(NotFound):  # what is not there needs no removal
            await ask.write(lambda change: remove_check(change, ask.caller, asked.node, asked.check_id))
    else:
        ask.check(WriteNode(asked.node))
        await ask.write(lambda change: delete_node(change, asked.node))
    return Answer(body=True)


async def nodes(ask: Ask) -> Watch:
    """GET /v1/catalog/nodes."""
    ask.check(ReadMesh())
    datacenter, choose, is_meant = ask.server.realm.datacenter, await chosen(ask, NODE), on_nodes(ask)

    def read(connection: sqlite3.Connection) -> Answer:
        return Answer(choose([node_json(n, datacenter) for n in read_nodes(connection) if is_meant(n.value)]))

    return watch((NODES,), read, is_list=True)


async def services(ask: Ask) -> Watch:
    """GET /v1/catalog/services: names with tags."""
    ask.check(ReadMesh())
    if not ask.all("node-meta"):
        return watch((SERVICES,), lambda c: Answer(read_names(c)), is_list=True)
    is_meant = on_nodes(ask)
    return watch((SERVICES, NODES), lambda c: Answer(read_names(c, is_meant)), is_list=True)


async def service(ask: Ask) -> Watch:
    """GET /v1/catalog/service/:name: instances on one level."""
    ask.check(ReadMesh())
    name, datacenter, choose, find = ask.path["name"], ask.server.realm.datacenter, await chosen(ask, FLAT), _finder(ask)

    def read(connection: sqlite3.Connection) -> Answer:
        return Answer(choose([flat_json(n, s, datacenter) for n, s in find(connection)]))

    return watch((service_topic(name),), read, is_list=True)


async def health(ask: Ask) -> Watch:
    """GET /v1/health/service/:name. `?passing` leaves out what has a check that does not pass."""
    ask.check(ReadMesh())
    name, datacenter, choose, find = ask.path["name"], ask.server.realm.datacenter, await chosen(ask, HEALTH), _finder(ask)
    only_passing = ask.truth("passing", bare=True)

    def read(connection: sqlite3.Connection) -> Answer:
        reasons, checks = read_reasons(connection), read_checks_for(connection, name)

        def checks_at(host: str, instance: str) -> list[Json]:
            own = [*checks.get((host, ""), ()), *checks.get((host, instance), ())]
            return checks_json(host, reasons) + [check_json(each) for each in own]

        rows = [health_json(n, s, checks_at(n.value.name, s.value.id), datacenter) for n, s in find(connection)]
        return Answer(choose([row for row in rows if not only_passing or _is_passing(row)]))

    return watch((service_topic(name),), read, is_list=True)


async def health_of_node(ask: Ask) -> Watch:
    """GET /v1/health/node/:node: the checks of the host and of what runs there."""
    ask.check(ReadMesh())
    name, choose = ask.path["node"], await chosen(ask, CHECK)

    def read(connection: sqlite3.Connection) -> Answer:
        rows = checks_json(name, read_reasons(connection)) + [check_json(each) for each in read_checks_of(connection, name)]
        return Answer(choose(rows))

    return watch((node_topic(name),), read, is_list=True)


async def node(ask: Ask) -> Watch:
    """GET /v1/catalog/node/:node: a host with its services by ID; null: there is none."""
    return await _node(ask, by_id=True)


async def node_services(ask: Ask) -> Watch:
    """GET /v1/catalog/node-services/:node: a host with its services as a list."""
    return await _node(ask, by_id=False)


async def inventory(ask: Ask) -> Watch:
    """GET /v1/internal/ui/nodes: every host with its services and checks, as Consul makes it for its own pages."""
    ask.check(ReadMesh())
    datacenter = ask.server.realm.datacenter

    def read(connection: sqlite3.Connection) -> Answer:
        if ask.is_pretty:
            return Answer(_everything(connection, datacenter))
        index = index_of(connection, (REGISTRATIONS,))
        packed = ask.server.kept.packed(index, lambda: bytes(encoded(_everything(connection, datacenter), is_pretty=False)))
        return Answer(msgspec.Raw(packed), encoding="gzip") if ask.takes_gzip else Answer(msgspec.Raw(unpacked(packed)))

    return watch((REGISTRATIONS,), read, is_list=True)


def _everything(connection: sqlite3.Connection, datacenter: str) -> list[msgspec.Raw]:
    reasons, rows = read_reasons(connection), []
    for stored in read_nodes(connection):
        name = stored.value.name
        services = [service_json(row) for row in read_services_of(connection, name)]
        checks = checks_json(name, reasons) + [check_json(each) for each in read_checks_of(connection, name)]
        row = {**node_json(stored, datacenter), "Services": services, "Checks": checks}
        rows.append(msgspec.Raw(msgspec.json.encode(row)))  # a hundred thousand instances as objects would be 200 MB
    return rows


async def datacenters(ask: Ask) -> Answer:
    """GET /v1/catalog/datacenters: this one."""
    return Answer([ask.server.realm.datacenter])


async def peers(ask: Ask) -> Answer:
    """GET /v1/status/peers: this very server."""
    return Answer([ask.server.listen])


async def leader(ask: Ask) -> Answer:
    """GET /v1/status/leader: this very server."""
    return Answer(ask.server.listen)


def without_token(body: dict[str, Any], secret: str) -> dict[str, Any]:
    """The body without the token, which py-consul says there once more. What counts is in the header.

    Raises:
        BadRequest: it is another one.
    """
    key = next((key for key in body if key.lower() == "writerequest"), None)
    if key is None:
        return body
    if body[key] not in (None, {}, {"Token": secret}):
        raise BadRequest("WriteRequest: only the token of X-Consul-Token can stand there once more; leave it out")
    return {name: value for name, value in body.items() if name != key}


def note_displaced(ask: Ask, gone: list[Holder]) -> None:
    """Says whose claims had to go: a mistake of the operator's, or an intruder's host."""
    for holder in gone:
        open_log().warning("claim_displaced", by=ask.caller.node, accessor=ask.caller.accessor, claim=str(holder))


def _is_passing(row: Json) -> bool:
    return all(check["Status"] == "passing" for check in row["Checks"])


def _finder(ask: Ask) -> Callable[[sqlite3.Connection], list[tuple[Stored[NodeRow], Stored[ServiceRow]]]]:
    """Looks for the instances of a service with all tags, in any case, on hosts with all meta, of the query."""
    name, tags, is_meant = ask.path["name"], {tag.lower() for tag in ask.all("tag")}, on_nodes(ask)

    def find(connection: sqlite3.Connection) -> list[tuple[Stored[NodeRow], Stored[ServiceRow]]]:
        found = read_instances(connection, name)
        return [(n, s) for n, s in found if tags <= {tag.lower() for tag in s.value.tags} and is_meant(n.value)]

    return find


async def _node(ask: Ask, *, by_id: bool) -> Watch:
    ask.check(ReadMesh())
    name, datacenter, choose = ask.path["node"], ask.server.realm.datacenter, await chosen(ask, SERVICE)

    def read(connection: sqlite3.Connection) -> Answer:
        stored = read_node(connection, name)
        if stored is None:
            return Answer(None if by_id else {"Node": None, "Services": None})
        rows = choose([service_json(row) for row in read_services_of(connection, name)])
        shown = {row["ID"]: row for row in rows} if by_id else rows
        return Answer({"Node": node_json(stored, datacenter), "Services": shown})

    return watch((node_topic(name),), read, is_list=True)
