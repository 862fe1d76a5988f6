"""/v1/kv: the key-value store."""

import base64
import sqlite3

from nodeagent.embedded.access import ReadValue, ReadValues, WriteMesh, WriteValue
from nodeagent.embedded.asking import Answer, Ask, Watch
from nodeagent.embedded.database import Change
from nodeagent.embedded.refusal import BadRequest
from nodeagent.embedded.values import (
    Value,
    check_key,
    delete_value,
    delete_values,
    prefix_index,
    prefix_topic,
    put_value,
    read_keys,
    read_value,
    read_values,
    value_index,
    value_topic,
)


async def read(ask: Ask) -> Watch:
    """GET /v1/kv/:key; with `?recurse` or `?keys` everything below it."""
    key, is_below = ask.path["key"], ask.says("recurse") | ask.says("keys")  # not `or`: what either says badly is refused
    if "separator" in ask.query and "keys" not in ask.query:
        raise BadRequest("?separator= is for lists of keys: it cannot go without ?keys")
    ask.check(ReadValues(key) if is_below else ReadValue(key))
    if is_below:
        return _below(ask, key)
    is_raw = ask.says("raw")
    check_key(key)

    def found(connection: sqlite3.Connection) -> Answer:
        value = read_value(connection, key)
        if value is None:
            return Answer(b"", 404)
        return Answer(value.value if is_raw else [_value_json(value)])

    return Watch((value_topic(key),), found, lambda connection: value_index(connection, key))


async def put(ask: Ask) -> Answer:
    """PUT /v1/kv/:key: false when `?cas=` is not the key's index any more."""
    ask.check(WriteValue(ask.path["key"]))
    key, flags, cas = check_key(ask.path["key"]), ask.number("flags") or 0, ask.number("cas")
    value = await ask.body()
    return Answer(await ask.write(lambda change: put_value(change, key, value, flags, cas)))


async def delete(ask: Ask) -> Answer:
    """DELETE /v1/kv/:key; with `?recurse` everything below it."""
    ask.check(WriteMesh("the KV store"))
    key, cas = ask.path["key"], ask.number("cas")
    if not ask.says("recurse"):
        check_key(key)
        return Answer(await ask.write(lambda change: delete_value(change, key, cas)))
    if cas is not None:
        raise BadRequest("?cas= is for one key: it cannot go with ?recurse")

    def make(change: Change) -> bool:
        delete_values(change, key)
        return True

    return Answer(await ask.write(make))


def _below(ask: Ask, prefix: str) -> Watch:
    keys_only, separator = ask.says("keys"), ask.query.get("separator", "")
    if "raw" in ask.query and not keys_only:  # Consul gives the first value of them
        raise BadRequest("?raw is for one key: it cannot go with ?recurse")

    def found(connection: sqlite3.Connection) -> Answer:
        if keys_only:
            listed: list[object] = list(read_keys(connection, prefix, separator))
        else:
            listed = [_value_json(value) for value in read_values(connection, prefix)]
        return Answer(listed) if listed or (keys_only and not prefix) else Answer(b"", 404)  # as with Consul, there is always a root

    return Watch((prefix_topic(prefix),), found, lambda connection: prefix_index(connection, prefix), is_list=True)


def _value_json(value: Value) -> dict[str, object]:
    return {
        "LockIndex": 0,
        "Key": value.key,
        "Flags": value.flags,
        "Value": base64.b64encode(value.value).decode() if value.value else None,
        "CreateIndex": value.create_index,
        "ModifyIndex": value.modify_index,
    }
