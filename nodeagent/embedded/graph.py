"""Config entries against one another, as Consul checks them at a write: circles, protocols that routing needs."""

import sqlite3
from collections.abc import Iterator
from typing import Any

from nodeagent.catalog.policy.entries import Key, Spec, read_entry
from nodeagent.catalog.policy.references import reference_faults, references_of
from nodeagent.embedded.config_entries import read_entries
from nodeagent.embedded.config_entries import read_entry as read_stored
from nodeagent.embedded.entries import INTENTIONS
from nodeagent.embedded.refusal import BadRequest
from nodeagent.errors import PolicyError

_LINKED = ("service-resolver", "service-splitter", "service-router")
_COMMON = (Key("proxy-defaults", "global"), Key("mesh", "mesh"))


def check_graph(connection: sqlite3.Connection, key: Key, entry: dict[str, Any] | None) -> None:
    """Nothing, when `key` may say `entry` from now on; None: when it may go.

    Raises:
        BadRequest: others would lead in a circle, or need another protocol; they did not before.
    """
    after = _try_spec(entry) if entry else None
    if key.kind in (INTENTIONS, "jwt-provider") and not _speaks_of_requests(entry):
        return  # most writes: nothing leads through them
    around = _around(connection, key, after)
    known = set(reference_faults(around, is_all=True))
    changed = {each: spec for each, spec in around.items() if each != key} | ({key: after} if after else {})
    faults = [fault for fault in reference_faults(changed, is_all=True) if fault not in known]
    if faults:
        raise BadRequest("; ".join(faults))


def _speaks_of_requests(entry: dict[str, Any] | None) -> bool:
    return any(source.get("Permissions") for source in (entry or {}).get("Sources", ()))


def _around(connection: sqlite3.Connection, key: Key, after: Spec | None) -> dict[Key, Spec]:
    """What is stored and can matter: all that leads from service to service, and the defaults of those that it names."""
    found = {Key(spec.kind, spec.name): spec for kind in _LINKED for spec in _specs(connection, kind)}
    specs = [*found.values(), *([after] if after else [])]
    names = {key.name, *(spec.name for spec in specs), *(each.service for spec in specs for each in references_of(spec))}
    wanted = (*_COMMON, Key(INTENTIONS, key.name), *(Key("service-defaults", name) for name in sorted(names)))
    for each in wanted:
        stored = read_stored(connection, each.kind, each.name)
        spec = _try_spec(stored.value) if stored else None
        if spec is not None:
            found[each] = spec
    return found


def _specs(connection: sqlite3.Connection, kind: str) -> Iterator[Spec]:
    for stored in read_entries(connection, kind):
        spec = _try_spec(stored.value)
        if spec is not None:
            yield spec


def _try_spec(body: dict[str, Any]) -> Spec | None:
    """The entry; None for one that an older version took and this one would not."""
    try:
        return read_entry(body).spec
    except PolicyError:
        return None
