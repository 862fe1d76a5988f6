"""Intentions of a Consul before 1.9, shown and written as if they were a config entry of their destination."""

import json
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import msgspec

from nodeagent.catalog.kept_intentions import KEPT_INTENTIONS, KeptIntentions, kept_path, overlaid, parse_kept, shadowed
from nodeagent.catalog.legacy_intentions import LEGACY_INTENTIONS, LegacyRow, is_unknown_kind, parse_legacy_intentions
from nodeagent.catalog.state import IntentionRow, parse_intentions
from nodeagent.cli.catalog_api import Client, segment
from nodeagent.errors import CatalogError, NotInCatalog

ENTRIES = "/v1/config/service-intentions"

Entry = dict[str, Any]
Edit = Callable[[Entry | None], Entry | None]


class Found(NamedTuple):
    """All intentions, wherever this catalog keeps them."""

    rows: tuple[IntentionRow, ...]
    shadowed: tuple[IntentionRow, ...] = ()
    """Rows of which an entry in the KV store says otherwise: that is in force."""
    doubt: str = ""
    """Why an entry in the KV store may be in force that is not among them."""


def fetch_rows(client: Client, about: Collection[str] = ()) -> tuple[IntentionRow, ...]:
    """Those in force.

    Raises:
        CatalogError: as `fetch_all`; or what it doubts of `about`.
    """
    found = fetch_all(client, about)
    if found.doubt:
        raise CatalogError(found.doubt)
    return found.rows


def fetch_all(client: Client, about: Collection[str] = ()) -> Found:
    """Those in force, and those that are not.

    about: destinations of which it must not be missed that the KV store has an entry: its list leaves out what the token may not read.

    Raises:
        CatalogError: the catalog cannot be asked, or its answer not be read.
    """
    try:
        return Found(parse_intentions(json.dumps(client.ask("GET", ENTRIES)).encode()))
    except CatalogError as error:
        if not is_unknown_kind(str(error)):
            raise
    rows = parse_legacy_intentions(json.dumps(client.ask("GET", LEGACY_INTENTIONS)).encode())
    kept = _fetch_kept(client).rows
    doubts = (_kept_doubt(client, name) for name in about if name not in kept)
    return Found(overlaid(rows, kept), shadowed(rows, kept), next(filter(None, doubts), ""))


def _fetch_kept(client: Client) -> KeptIntentions:
    try:
        return parse_kept(json.dumps(client.ask("GET", KEPT_INTENTIONS)).encode())
    except NotInCatalog:
        return KeptIntentions()


def _kept_doubt(client: Client, destination: str) -> str:
    """Why there may be an entry all the same: the very key is refused to who may not read it, where a list says nothing."""
    try:
        client.ask("GET", kept_path(destination))
    except NotInCatalog:
        return ""
    except CatalogError as error:
        if "answered 403 " not in str(error):
            raise
        return (
            f"this token may not read what the KV store says of {destination}, which stands in the place of rows: "
            'what it is shown need not be in force (give it key_prefix "nodeagent/config/" { policy = "read" })'
        )
    return f"the KV store has an entry of {destination} by now; ask again"


def change_rows(client: Client, destination: str, edit: Edit) -> bool:
    """Applies `edit` to the rows of `destination`; False: somebody else changed them meanwhile.

    There is no compare-and-set for rows. One that somebody made or removed meanwhile is noticed, one that was changed is not.

    Raises:
        CatalogError: refused.
    """
    rows = {row.source_name: row for row in _rows(client) if row.destination_name.lower() == destination and row.is_of_this_mesh}
    after = edit(_entry(destination, rows.values()) if rows else None)
    wanted = {source["Name"]: source["Action"] for source in (after or {}).get("Sources", ())}
    try:
        for name, action in wanted.items():
            _put(client, destination, name, action, rows.get(name))
        for name in rows.keys() - wanted.keys():
            client.ask("DELETE", f"{LEGACY_INTENTIONS}/{segment(rows[name].id)}")
    except CatalogError as error:
        if _is_overtaken(error):
            return False
        raise
    return True


def _put(client: Client, destination: str, source: str, action: str, known: LegacyRow | None) -> None:
    if known is not None and known.action == action:
        return
    body: Entry = {"SourceName": source, "DestinationName": destination, "SourceType": "consul", "Action": action}
    if known is None:
        client.ask("POST", LEGACY_INTENTIONS, body)
    else:
        body |= {"Description": known.description, "Meta": known.meta or {}}
        client.ask("PUT", f"{LEGACY_INTENTIONS}/{segment(known.id)}", body)


def _rows(client: Client) -> list[LegacyRow]:
    try:
        return msgspec.convert(client.ask("GET", LEGACY_INTENTIONS) or [], list[LegacyRow])
    except msgspec.ValidationError as error:
        raise CatalogError(f"{LEGACY_INTENTIONS}: {error}") from error


def _entry(destination: str, rows: Iterable[LegacyRow]) -> Entry:
    sources = [{"Name": row.source_name, "Action": row.action} for row in rows]
    return {"Kind": "service-intentions", "Name": destination, "Sources": sources}


def _is_overtaken(error: CatalogError) -> bool:
    """Whether a row was made, or removed, by another writer since it was read; Consul's words, with status 500."""
    said = str(error)
    return isinstance(error, NotInCatalog) or "duplicate intention found" in said or "non-existent intention" in said
