"""/v1/agent: the host of the caller's token, as if an agent of Consul's ran there."""

import asyncio
import sqlite3

from nodeagent import __version__
from nodeagent.embedded.access import ReadMesh, RegisterService, WriteNode
from nodeagent.embedded.answers import service_json
from nodeagent.embedded.asking import Answer, Ask
from nodeagent.embedded.catalog_api import note_displaced
from nodeagent.embedded.check import parse_checks_of, take_checks
from nodeagent.embedded.checks import keep_checks, put_checks
from nodeagent.embedded.claims import Holder, register_service, remove_service
from nodeagent.embedded.database import Change
from nodeagent.embedded.filters import SERVICE, chosen
from nodeagent.embedded.maintenance import maintain as put_maintenance
from nodeagent.embedded.maintenance import parse_wish
from nodeagent.embedded.refusal import BadRequest, NotFound
from nodeagent.embedded.registration import parse_agent_service
from nodeagent.embedded.registrations import read_node, read_services_of


async def read_self(ask: Ask) -> Answer:
    """GET /v1/agent/self: what clients need to know whom they talk to."""
    ask.check(ReadMesh())
    realm = ask.server.realm
    name = ask.caller.node or ask.query.get("node", "")
    stored = ask.server.store.read(lambda connection: read_node(connection, name))
    config = {"Datacenter": realm.datacenter, "NodeName": name, "Server": True, "Version": __version__}
    member = {"Name": name, "Addr": stored.value.address if stored else "", "Tags": {"dc": realm.datacenter}}
    return Answer({"Config": config, "Member": member, "Meta": stored.value.meta if stored else {}})


async def services(ask: Ask) -> Answer:
    """GET /v1/agent/services: the host's services by ID."""
    ask.check(ReadMesh())
    name, datacenter, choose = node_of(ask), ask.server.realm.datacenter, await chosen(ask, SERVICE)

    def read(connection: sqlite3.Connection) -> dict[str, object]:
        rows = choose([service_json(row) for row in read_services_of(connection, name)])
        return {row["ID"]: row | {"Datacenter": datacenter} for row in rows}

    return Answer(await ask.server.store.read_aside(ask.caller.accessor, read))


async def register(ask: Ask) -> Answer:
    """PUT /v1/agent/service/register."""
    body, asked = take_checks(await ask.json())
    row = parse_agent_service(body, node_of(ask))
    ask.check(RegisterService(row.node, row.name))
    checks, is_all = parse_checks_of(asked, row.node, row.id, row.name), ask.truth("replace-existing-checks", bare=True)

    def make(change: Change) -> list[Holder]:
        gone = register_service(change, ask.caller, row)
        if is_all:
            keep_checks(change, row, checks)
        put_checks(change, ask.caller, checks)
        return gone

    note_displaced(ask, await ask.write(make))
    ask.server.beats.begin(checks, asyncio.get_running_loop().time())
    return Answer(b"")


async def deregister(ask: Ask) -> Answer:
    """PUT /v1/agent/service/deregister/:id."""
    name, service_id = node_of(ask), ask.path["id"]
    if not await ask.write(lambda change: remove_service(change, ask.caller, name, service_id)):
        raise NotFound(f"{name} has no service with the ID {service_id!r}: give the ID, not the name")
    return Answer(b"")


async def maintain(ask: Ask) -> Answer:
    """PUT /v1/agent/maintenance?enable=true&reason=…: the host takes no new work, or takes it again."""
    name, (enable, reason) = node_of(ask), parse_wish(ask.query)
    ask.check(WriteNode(name))
    await ask.write(lambda change: put_maintenance(change, name, enable=enable, reason=reason))
    return Answer(b"")


def node_of(ask: Ask) -> str:
    """The host that the request is about: the token's own, or for one that belongs to no host the one in `?node=`.

    Raises:
        BadRequest: it says none.
    """
    name = ask.query.get("node", "") or ask.caller.node
    if not name:
        raise BadRequest(f"{ask.caller} belongs to no host: say which with ?node=, or use that host's token")
    return name
