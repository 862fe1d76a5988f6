"""Intentions as rows: what service-intentions entries say of pairs, who may connect, and edits of one pair."""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from nodeagent.embedded.body import DEFAULT_NAMES
from nodeagent.embedded.entries import INTENTIONS, sorted_sources
from nodeagent.embedded.refusal import BadRequest
from nodeagent.model.intention import ANY
from nodeagent.model.names import is_service_name

Entry = dict[str, Any]


class Row(NamedTuple):
    """One pair, as the entry of its destination says."""

    source: str
    destination: str
    precedence: int
    is_allow: bool
    """Whether a connection is allowed: permissions and JWTs speak of requests, so for a connection they are a deny."""
    said: dict[str, Any]
    """The source as it is kept."""
    create_index: int
    modify_index: int


def rows_of(entry: Entry, create_index: int, modify_index: int) -> list[Row]:
    """The rows of one service-intentions entry."""
    needs_jwt = bool(entry.get("JWT"))
    return [
        Row(
            said["Name"],
            entry["Name"],
            said["Precedence"],
            said.get("Action") == "allow" and not needs_jwt,
            said,
            create_index,
            modify_index,
        )
        for said in entry["Sources"]
    ]


def in_order(rows: Iterable[Row]) -> list[Row]:
    """The rows as they are evaluated: most specific first, then by name."""
    return sorted(rows, key=lambda row: (-row.precedence, row.destination, row.source))


def match_rows(rows: Iterable[Row], by: Literal["source", "destination"], name: str) -> list[Row]:
    """The rows that can decide about `name` at that end, in order."""
    return in_order(row for row in rows if getattr(row, by) in (name, ANY))


def is_allowed(rows: Iterable[Row], source: str, destination: str) -> bool:
    """Whether `source` may connect to `destination`: the most specific row decides; without one, no."""
    for row in match_rows(rows, "destination", destination):
        if row.source in (source, ANY):
            return row.is_allow
    return False


def with_source(entry: Entry | None, destination: str, source: dict[str, Any]) -> Entry:
    """The entry of `destination` in which `source`, as `normal_source` gives it, says what it says now, and the others what they said."""
    kept = [said for said in (entry or {}).get("Sources", []) if said["Name"] != source["Name"]]
    sources = sorted_sources([*kept, source])
    return {**(entry or {"Kind": INTENTIONS, "Name": destination}), "Sources": sources}


def without_source(entry: Entry, source: str) -> Entry | None:
    """The entry without `source`; None when nothing would remain."""
    kept = [said for said in entry["Sources"] if said["Name"] != source]
    return {**entry, "Sources": kept} if kept else None


def end_name(text: str, key: str) -> str:
    """The service in one end of `?source=` or `?destination=`: `web`, `default/web` or `*`.

    Raises:
        BadRequest: absent, in another namespace, or not a name.
    """
    *namespaces, name = text.split("/")
    if len(namespaces) > 2 or any(namespace not in DEFAULT_NAMES[1:] for namespace in namespaces):
        raise BadRequest(f"?{key}={text[:80]}: only the namespace and partition default exist here")
    if name != ANY and not is_service_name(name):
        raise BadRequest(f"?{key}= must be the name of a service, or {ANY}")
    return name


def intention_json(row: Row) -> dict[str, Any]:
    """One row as Consul's intention endpoints show it."""
    shown = {
        "SourceNS": "default",
        "SourceName": row.source,
        "DestinationNS": "default",
        "DestinationName": row.destination,
        "SourceType": "consul",
        "Precedence": row.precedence,
        "CreateIndex": row.create_index,
        "ModifyIndex": row.modify_index,
    }
    extra = {key: row.said[key] for key in ("Action", "Permissions", "Description") if row.said.get(key)}
    return shown | extra
