"""Intentions in the KV store, where a Consul before 1.9 has no entries for them; pure.

An entry there stands in the place of all rows of its destination. One that is not understood denies that destination.
"""

import base64
import binascii
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from nodeagent import limits
from nodeagent.catalog.consul_rows import KeptValue, rows_of, within
from nodeagent.catalog.state import IntentionRow, parse_intentions
from nodeagent.errors import CatalogError, PolicyError
from nodeagent.model.intention import ANY
from nodeagent.model.names import is_service_name

PREFIX = "nodeagent/config/service-intentions/"
KEPT_INTENTIONS = f"/v1/kv/{PREFIX}?recurse=true"

Rows = tuple[IntentionRow, ...]


class KeptIntentions(NamedTuple):
    """What is below PREFIX, by destination."""

    rows: Mapping[str, Rows] = {}
    texts: Mapping[str, str] = {}
    """What `rows` were read from, as it came: what did not change is not read again."""


def kept_path(destination: str) -> str:
    """Where the entry of one destination is: who may not read that very key is refused, and of a list nothing is said."""
    return f"/v1/kv/{PREFIX}{quote(destination, safe='')}"


def parse_kept(body: bytes, before: KeptIntentions = KeptIntentions()) -> KeptIntentions:  # noqa: B008 - it is never changed
    """The entries in an answer of KEPT_INTENTIONS; keys that no destination is called by are left out.

    A key with large letters means somebody, and is not understood: Consul looks for names in any case, and for keys in theirs.

    Raises:
        CatalogError: not such an answer, or longer than the limits.
    """
    values = rows_of(body, KeptValue, KEPT_INTENTIONS, limits.CATALOG_SERVICES)
    named = {value.key.removeprefix(PREFIX): value.value or "" for value in values if value.key.startswith(PREFIX)}
    texts = {name: text for name, text in named.items() if name == ANY or is_service_name(name)}
    rows = {name: before.rows[name] if before.texts.get(name) == text else _rows(name, text) for name, text in texts.items()}
    rows |= {name: (_deny(name, key, "a service's name is in lower case"),) for name, key in _misspelt(named).items()}
    within(sum(map(len, rows.values())), limits.CATALOG_INTENTIONS, KEPT_INTENTIONS)
    return KeptIntentions(rows, texts)


def overlaid(rows: Iterable[IntentionRow], kept: Mapping[str, Rows]) -> Rows:
    """`rows`, but of each destination that has an entry what that says; by destination, source and action."""
    found = (*(row for row in rows if row.destination not in kept), *(row for each in kept.values() for row in each))
    return tuple(sorted(found, key=lambda row: (row.destination, row.source, row.action)))


def shadowed(rows: Iterable[IntentionRow], kept: Mapping[str, Rows]) -> Rows:
    """Those of `rows` that are not in force, as an entry is there that does not say the same of their pair."""
    said = {(row.source, row.destination, row.word) for each in kept.values() for row in each}
    return tuple(row for row in rows if row.destination in kept and (row.source, row.destination, row.word) not in said)


def _rows(name: str, text: str) -> Rows:
    """What an entry says; its key is its name, whatever it calls itself."""
    from nodeagent.catalog.policy.entries import INTENTIONS, read_entry  # noqa: PLC0415 - RE2, 3 MB that an agent needs with Consul 1.8 alone
    from nodeagent.catalog.policy.fitting import fold  # noqa: PLC0415 - as above

    try:
        said = msgspec.json.decode(base64.b64decode(text, validate=True), type=dict[str, object])
        bare = {word: each for word, each in said.items() if fold(word) not in ("kind", "name")}
        entry = read_entry({"Kind": INTENTIONS, "Name": name, **bare})
        return parse_intentions(msgspec.json.encode([entry.body]))
    except (CatalogError, PolicyError, msgspec.MsgspecError, binascii.Error, UnicodeError, RecursionError) as error:
        why = str(error.faults[0] if isinstance(error, PolicyError) else error)
        return (_deny(name, name, why),)


def _misspelt(keys: Collection[str]) -> dict[str, str]:
    """By the name that is meant, where no key is called that."""
    return {key.lower(): key for key in sorted(keys) if key != key.lower() and is_service_name(key.lower()) and key.lower() not in keys}


def _deny(name: str, key: str, why: str) -> IntentionRow:
    return IntentionRow(ANY, name, "deny", f"{PREFIX}{key} is not understood, and denies: {why}"[: limits.CATALOG_NAME_CHARS])
