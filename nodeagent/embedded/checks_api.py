"""Checks over HTTP: registered, told how they are, and read; and what the agent of a host is to look at."""

import asyncio
import sqlite3
from typing import Any, Literal

import msgspec

from nodeagent.embedded.access import ReadMesh, WriteNode
from nodeagent.embedded.agent_api import node_of
from nodeagent.embedded.answers import Json
from nodeagent.embedded.asking import Answer, Ask, Watch, parse_wait, watch
from nodeagent.embedded.body import shaped
from nodeagent.embedded.check import LOOKED_AT, Status, cut, parse_check
from nodeagent.embedded.checks import (
    Health,
    check_json,
    entitled,
    put_checks,
    read_checks,
    read_checks_for,
    read_checks_of,
    remove_check,
    tell,
)
from nodeagent.embedded.filters import CHECK, chosen, on_nodes
from nodeagent.embedded.maintenance import checks_json, read_reasons
from nodeagent.embedded.refusal import BadRequest
from nodeagent.embedded.registrations import CHECKS, node_topic, read_nodes, service_topic

_STATES = ("any", "passing", "warning", "critical")


class _Word(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """How a check is."""

    status: Status
    output: str = ""


async def register(ask: Ask) -> Answer:
    """PUT /v1/agent/check/register."""
    asked = parse_check(await ask.json(), node_of(ask))
    await ask.write(lambda change: put_checks(change, ask.caller, [asked]))
    ask.server.beats.begin([asked], asyncio.get_running_loop().time())
    return Answer(b"")


async def deregister(ask: Ask) -> Answer:
    """PUT /v1/agent/check/deregister/:id."""
    name, check_id = node_of(ask), ask.path["id"]
    await ask.write(lambda change: remove_check(change, ask.caller, name, check_id))
    return Answer(b"")


async def passing(ask: Ask) -> Answer:
    """PUT /v1/agent/check/pass/:id?note=…."""
    return await _say(ask, "passing", ask.query.get("note", ""), "ttl")


async def warning(ask: Ask) -> Answer:
    """PUT /v1/agent/check/warn/:id?note=…."""
    return await _say(ask, "warning", ask.query.get("note", ""), "ttl")


async def failing(ask: Ask) -> Answer:
    """PUT /v1/agent/check/fail/:id?note=…."""
    return await _say(ask, "critical", ask.query.get("note", ""), "ttl")


async def update(ask: Ask) -> Answer:
    """PUT /v1/agent/check/update/:id: of a TTL check as Consul's clients do it; the agents tell so what they have looked at."""
    word = shaped(await ask.json(), _Word)
    return await _say(ask, word.status, word.output, "looked at" if ask.caller.kind == "node" else "ttl")


async def checks(ask: Ask) -> Answer:
    """GET /v1/agent/checks: the checks of the host and of what runs there, by CheckID."""
    ask.check(ReadMesh())
    name, choose = node_of(ask), await chosen(ask, CHECK)

    def read(connection: sqlite3.Connection) -> dict[str, object]:
        rows = checks_json(name, read_reasons(connection)) + [check_json(each) for each in read_checks_of(connection, name)]
        return {row["CheckID"]: row for row in choose(rows)}

    return Answer(await ask.server.store.read_aside(ask.caller.accessor, read))


async def of_service(ask: Ask) -> Watch:
    """GET /v1/health/checks/:name: the checks of a service's instances, not of their hosts."""
    ask.check(ReadMesh())
    name, choose = ask.path["name"], await chosen(ask, CHECK)

    def read(connection: sqlite3.Connection) -> Answer:
        found = [check_json(each) for (_, instance), rows in read_checks_for(connection, name).items() if instance for each in rows]
        return Answer(choose(_on_meant(ask, connection, found)))

    return watch((service_topic(name),), read, is_list=True)


async def in_state(ask: Ask) -> Watch:
    """GET /v1/health/state/:state: all checks that are so."""
    ask.check(ReadMesh())
    state, choose = ask.path["state"], await chosen(ask, CHECK)
    if state not in _STATES:
        raise BadRequest(f"{state[:40]!r} is no state: use {', '.join(_STATES)}")

    def read(connection: sqlite3.Connection) -> Answer:
        reasons = read_reasons(connection)
        found = [check_json(each) for each in read_checks(connection) if state in ("any", each.status)]
        found += [row for host in sorted(reasons) for row in checks_json(host, reasons) if state in ("any", row["Status"])]
        return Answer(choose(_on_meant(ask, connection, found)))

    return watch((CHECKS,), read, is_list=True)


async def duties(ask: Ask) -> Watch:
    """GET /v1/nodeagent/checks: what the agent of a host is to look at, with all that it needs for that. Who asks lives, and looks."""
    name = node_of(ask)
    ask.check(WriteNode(name))
    if ask.caller.kind == "node":
        wait_s = parse_wait(ask.query.get("wait", "")) if ask.number("index") else 0.0
        ask.server.beats.hear_agent(name, asyncio.get_running_loop().time(), wait_s)

    def read(connection: sqlite3.Connection) -> Answer:
        return Answer([_duty(each) for each in read_checks_of(connection, name) if each.row.kind in LOOKED_AT])

    return watch((node_topic(name),), read, is_list=True)


def _on_meant(ask: Ask, connection: sqlite3.Connection, found: list[Json]) -> list[Json]:
    """Those on hosts that `?node-meta=` asks for."""
    if not ask.all("node-meta"):
        return found
    is_meant = on_nodes(ask)
    hosts = {stored.value.name for stored in read_nodes(connection) if is_meant(stored.value)}
    return [row for row in found if row["Node"] in hosts]


async def _say(ask: Ask, status: Status, output: str, by: Literal["ttl", "looked at"]) -> Answer:
    """Notes how a check is; who only says once more that all is as it was costs no write, and wakes nobody."""
    name, check_id, words, now = node_of(ask), ask.path["id"], cut(output), asyncio.get_running_loop().time()
    known = ask.server.store.read(lambda c: entitled(c, ask.caller, name, check_id))
    _check_teller(known, by)
    beats = ask.server.beats
    beats.hear(name, check_id, now)
    is_news = known.status != status or (known.output != words and beats.may_tell(name, check_id, now))
    if is_news or beats.is_ending(name, check_id):
        ask.server.pace.take(ask.caller.accessor, now)
        await ask.write(lambda change: tell(change, ask.caller, name, check_id, status, words))
    return Answer(b"")


def _check_teller(known: Health, by: str) -> None:
    """Nothing, where a check of this kind is told so: what the agent looks at is not for others to say.

    Raises:
        BadRequest: else.
    """
    is_looked_at = known.row.kind in LOOKED_AT
    if not known.row.kind or (is_looked_at and by == "ttl"):
        how = "the host's agent looks at it itself" if is_looked_at else "whoever registered it says so with /v1/catalog/register"
        raise BadRequest(f"{known.row.id} is no TTL check: {how}")


def _duty(health: Health) -> dict[str, Any]:
    row = health.row
    return {
        "CheckID": row.id, "Type": row.kind, "Target": row.target, "Method": row.method, "Header": row.header,
        "IntervalS": row.interval_s, "TimeoutS": row.timeout_s, "TLSSkipVerify": row.skip_verify,
        "SuccessBeforePassing": row.passes, "FailuresBeforeCritical": row.fails, "Status": health.status,
    }  # fmt: skip
