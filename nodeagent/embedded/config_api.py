"""/v1/config: config entries."""

from typing import Any

from nodeagent.catalog.policy.entries import Key
from nodeagent.embedded.access import ReadMesh, WriteEntry
from nodeagent.embedded.ahead import write_entry
from nodeagent.embedded.asking import Answer, Ask, Watch, watch
from nodeagent.embedded.config_entries import (
    delete_entry,
    entry_topic,
    kind_topic,
    put_entry,
    read_entries,
    read_entry,
)
from nodeagent.embedded.database import Stored
from nodeagent.embedded.entries import check_kind, normal_entry, said_key


async def put(ask: Ask) -> Answer:
    """PUT /v1/config: false when `?cas=` is not the entry's index any more. The body is looked into when it is known who may."""
    body, cas = await ask.json(), ask.number("cas")
    ask.check(WriteEntry(*await ask.aside(lambda: said_key(body))))
    entry = await ask.aside(lambda: normal_entry(body))
    ask.check(WriteEntry(entry["Kind"], entry["Name"]))
    key = Key(entry["Kind"], entry["Name"])
    return Answer(await write_entry(ask, key, entry, cas, lambda change, check: put_entry(change, entry, cas, check)))


async def one(ask: Ask) -> Watch:
    """GET /v1/config/:kind/:name."""
    ask.check(ReadMesh())
    kind, name = check_kind(ask.path["kind"]), ask.path["name"]

    def read(connection: Any) -> Answer:
        stored = read_entry(connection, kind, name)
        if stored is None:
            return Answer(f"there is no config entry {kind}/{name}".encode(), 404)
        return Answer(_entry_json(stored))

    return watch((entry_topic(kind, name),), read)


async def every(ask: Ask) -> Watch:
    """GET /v1/config/:kind."""
    ask.check(ReadMesh())
    kind = check_kind(ask.path["kind"])
    return watch((kind_topic(kind),), lambda c: Answer([_entry_json(stored) for stored in read_entries(c, kind)]), is_list=True)


async def delete(ask: Ask) -> Answer:
    """DELETE /v1/config/:kind/:name: with `?cas=` whether it matched, else an empty object."""
    kind, name, cas = check_kind(ask.path["kind"]), ask.path["name"], ask.number("cas")
    ask.check(WriteEntry(kind, name))
    done = await write_entry(ask, Key(kind, name), None, cas, lambda change, check: delete_entry(change, kind, name, cas, check))
    return Answer({} if cas is None else done)


def _entry_json(stored: Stored[dict[str, Any]]) -> dict[str, Any]:
    return {**stored.value, "CreateIndex": stored.create_index, "ModifyIndex": stored.modify_index}
