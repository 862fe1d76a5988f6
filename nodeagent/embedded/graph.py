"""Config entries against one another, as Consul checks them at a write: circles, protocols that routing needs.

Only what can have become wrong by the write is read. Where that may be very much, it is read ahead of the write's turn
(`embedded/ahead`), as all other writes wait meanwhile.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from nodeagent import limits
from nodeagent.catalog.policy.entries import Key, Spec, read_entry
from nodeagent.catalog.policy.references import redirect_chain, reference_faults
from nodeagent.embedded.config_entries import find_keys, read_body
from nodeagent.embedded.entries import INTENTIONS, KINDS
from nodeagent.embedded.refusal import BadRequest
from nodeagent.errors import PolicyError
from nodeagent.model.policy.defaults import ProxyDefaults, ServiceDefaults

_LINKED = ("service-resolver", "service-splitter", "service-router")


def check_graph(connection: sqlite3.Connection, key: Key, entry: dict[str, Any] | None) -> None:
    """Nothing, when `key` may say `entry` from now on; None: when it may go.

    Raises:
        BadRequest: others would lead in a circle, or need another protocol; they did not before.
    """
    if key.kind in (INTENTIONS, "jwt-provider") and not _speaks_of_requests(entry):
        return  # most writes: nothing leads through them
    before, after = _before_and_after(connection, key, entry)
    _check(before, after, _concerned(connection, key, before, after))


def check_meanwhile(connection: sqlite3.Connection, key: Key, entry: dict[str, Any] | None, changed: Collection[Key]) -> None:
    """As `check_graph`, for one who has checked it before these others changed.

    Raises:
        BadRequest: one of them and `entry` do not go together.
    """
    before, after = _before_and_after(connection, key, entry)
    spoken_of = [each for one in changed if one.kind == "service-defaults" for each in _speaking_to(connection, one.name)]
    _check(before, after, (key, *changed, *spoken_of))


def _before_and_after(connection: sqlite3.Connection, key: Key, entry: dict[str, Any] | None) -> tuple["_Entries", "_Entries"]:
    return _Entries(connection, {}), _Entries(connection, {key: msgspec.json.encode(entry) if entry else None})


def _check(before: "_Entries", after: "_Entries", concerned: Iterable[Key]) -> None:
    keys = list(dict.fromkeys(concerned))
    faults = reference_faults(after, is_all=True, of=keys)
    known = set(reference_faults(before, is_all=True, of=keys)) if faults else set()
    new = [fault for fault in faults if fault not in known]
    if new:
        more = len(new) - limits.POLICY_FAULTS
        raise BadRequest("; ".join(new[: limits.POLICY_FAULTS]) + (f"; and {more} more" if more > 0 else ""))


def _concerned(connection: sqlite3.Connection, key: Key, before: "_Entries", after: "_Entries") -> Iterator[Key]:
    """The entries that can be wrong now and were not before."""
    yield key
    old, new = before.get(key), after.get(key)
    if key.kind == "service-resolver":  # it may lead back to one by whose stand-in it is reached
        yield from (Key(key.kind, name) for name in redirect_chain(after, key.name))
    elif key.kind == "service-defaults" and _protocol_in(old) != _protocol_in(new):
        yield from _speaking_to(connection, key.name)
    elif key.kind == "proxy-defaults" and _protocol_in(old) != _protocol_in(new):
        yield from (each for each in after if each.kind in _LINKED)
        yield from find_keys(connection, (INTENTIONS,), "Permissions")


def _speaking_to(connection: sqlite3.Connection, service: str) -> Iterator[Key]:
    """The entries that the protocol of a service matters to."""
    yield from (Key(kind, service) for kind in (*_LINKED, INTENTIONS))
    yield from find_keys(connection, _LINKED, service)


def _protocol_in(spec: Spec | None) -> str:
    return spec.protocol if isinstance(spec, ServiceDefaults | ProxyDefaults) else ""


def _speaks_of_requests(entry: dict[str, Any] | None) -> bool:
    return any(source.get("Permissions") for source in (entry or {}).get("Sources", ()))


class _Entries(Mapping[Key, Spec | None]):
    """What is stored, but for one change; each is read when it is looked at. Owned by one check."""

    def __init__(self, connection: sqlite3.Connection, changed: dict[Key, bytes | None]) -> None:
        """changed: what they say from now on; None: they go."""
        self._connection = connection
        self._bodies = changed

    def __getitem__(self, key: Key) -> Spec | None:
        if key not in self._bodies:
            self._bodies[key] = read_body(self._connection, key.kind, key.name)
        body = self._bodies[key]
        if body is None:
            raise KeyError(key)
        return _spec_of(body) if len(body) <= limits.CATALOG_SPEC_BYTES else _try_spec(body)

    def __iter__(self) -> Iterator[Key]:
        known = dict.fromkeys(find_keys(self._connection, KINDS), True) | {key: body is not None for key, body in self._bodies.items()}
        return iter(sorted(key for key, is_there in known.items() if is_there))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@lru_cache(maxsize=limits.CATALOG_SPECS)
def _spec_of(body: bytes) -> Spec | None:
    return _try_spec(body)


def _try_spec(body: bytes) -> Spec | None:
    """The entry; None for one that an older version took and this one would not."""
    try:
        return read_entry(msgspec.json.decode(body)).spec
    except PolicyError:
        return None
