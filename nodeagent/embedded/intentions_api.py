"""/v1/connect/intentions: who may call whom, pair by pair."""

import sqlite3
from typing import Any

from nodeagent.embedded.access import ReadMesh, WriteMesh
from nodeagent.embedded.asking import Answer, Ask, Watch, watch
from nodeagent.embedded.body import DEFAULT_NAMES
from nodeagent.embedded.config_entries import (
    delete_entry,
    intention_topics,
    kind_topic,
    put_entry,
    read_entry,
    read_intentions,
    read_intentions_to,
)
from nodeagent.embedded.database import Change
from nodeagent.embedded.entries import INTENTIONS, normal_source
from nodeagent.embedded.filters import INTENTION, chosen
from nodeagent.embedded.graph import check_graph
from nodeagent.embedded.intentions import (
    end_name,
    in_order,
    intention_json,
    is_allowed,
    match_rows,
    with_source,
    without_source,
)
from nodeagent.embedded.refusal import BadRequest, Missing

_BODY_MARKS: dict[str, tuple[object, ...] | None] = {
    "SourceName": None, "DestinationName": None, "Precedence": None, "CreateIndex": None, "ModifyIndex": None, "CreatedAt": None,
    "UpdatedAt": None, "ID": None, "Hash": None, "SourceNS": DEFAULT_NAMES, "DestinationNS": DEFAULT_NAMES, "SourceType": ("", "consul"),
    "Meta": (None, {}), "DefaultAddr": ("",), "DefaultPort": (0,),
}  # fmt: skip
"""What a client sends back of an intention that it read, and what it may say; None: anything, as the pair is in the query."""


async def put(ask: Ask) -> Answer:
    """PUT /v1/connect/intentions/exact?source=&destination=."""
    ask.check(WriteMesh("intentions"))
    source, destination = _pair(ask)
    body = _without_marks(await ask.json())
    said = await ask.aside(lambda: normal_source(body | {"Name": source}, destination))

    def make(change: Change) -> bool:
        stored = read_entry(change.connection, INTENTIONS, destination)
        entry = with_source(stored.value if stored else None, destination, said)
        return put_entry(change, entry, check=check_graph)

    return Answer(await ask.write(make))


async def one(ask: Ask) -> Watch:
    """GET /v1/connect/intentions/exact?source=&destination=."""
    ask.check(ReadMesh())
    source, destination = _pair(ask)

    def read(connection: sqlite3.Connection) -> Answer:
        for row in read_intentions_to(connection, destination):
            if (row.source, row.destination) == (source, destination):
                return Answer(intention_json(row))
        return Answer(f"there is no intention {source} -> {destination}".encode(), 404)

    return watch(intention_topics(destination)[:1], read, is_list=True)


async def delete(ask: Ask) -> Answer:
    """DELETE /v1/connect/intentions/exact?source=&destination=; what is not there needs no removal."""
    ask.check(WriteMesh("intentions"))
    source, destination = _pair(ask)

    def make(change: Change) -> None:
        stored = read_entry(change.connection, INTENTIONS, destination)
        if stored is None:
            return
        left = without_source(stored.value, source)
        if left is None:
            delete_entry(change, INTENTIONS, destination)
        else:
            put_entry(change, left)

    await ask.write(make)
    return Answer({})


async def every(ask: Ask) -> Watch:
    """GET /v1/connect/intentions: all rows in the order of evaluation."""
    ask.check(ReadMesh())
    read, choose = read_intentions, await chosen(ask, INTENTION)
    return watch((kind_topic(INTENTIONS),), lambda c: Answer(choose([intention_json(row) for row in in_order(read(c))])), is_list=True)


async def match(ask: Ask) -> Watch:
    """GET /v1/connect/intentions/match?by=&name=: the rows that can decide about a service at one end."""
    ask.check(ReadMesh())
    by, name = ask.query.get("by", ""), end_name(ask.query.get("name", ""), "name")
    if by == "destination":
        return watch(
            intention_topics(name),
            lambda c: Answer({name: [intention_json(row) for row in in_order(read_intentions_to(c, name))]}),
            is_list=True,
        )
    if by != "source":
        raise BadRequest("?by= must be source or destination")
    return watch(
        (kind_topic(INTENTIONS),),
        lambda c: Answer({name: [intention_json(row) for row in match_rows(read_intentions(c), "source", name)]}),
        is_list=True,
    )


async def check(ask: Ask) -> Answer:
    """GET /v1/connect/intentions/check?source=&destination=: whether a connection is allowed; by default it is not."""
    ask.check(ReadMesh())
    source, destination = _pair(ask)

    def read(connection: sqlite3.Connection) -> bool:
        return is_allowed(read_intentions_to(connection, destination), source, destination)

    return Answer({"Allowed": await ask.server.store.read_aside(ask.caller.accessor, read)})


def _without_marks(body: dict[str, Any]) -> dict[str, Any]:
    for key, allowed in _BODY_MARKS.items():
        if key in body and allowed is not None and body[key] not in allowed:
            raise Missing(f"{key} of an intention is not implemented by this catalog: leave it out")
    return {key: value for key, value in body.items() if key not in _BODY_MARKS}


def _pair(ask: Ask) -> tuple[str, str]:
    kind = ask.query.get("source-type", "")
    if kind not in ("", "consul"):
        raise BadRequest(f"?source-type={kind[:40]}: only consul exists")
    return (
        end_name(ask.query.get("source", ""), "source"),
        end_name(ask.query.get("destination", ""), "destination"),
    )
