"""Where entries are kept: Consul's config entries, or the KV store for kinds that the catalog has not."""

import base64
import json
import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from nodeagent import limits
from nodeagent.catalog.legacy_intentions import LEGACY_INTENTIONS, parse_legacy_intentions
from nodeagent.catalog.policy.audit import Act, Actor, Change, Trail, extended, parse_trail
from nodeagent.catalog.policy.entries import AUDIT_PREFIX, INTENTIONS, KINDS, OWN_PREFIX, Entry, Key, read_entry
from nodeagent.catalog.policy.fitting import fold
from nodeagent.catalog.state import IntentionRow
from nodeagent.cli import rights
from nodeagent.cli.catalog_api import Client, segment
from nodeagent.errors import CatalogError, NotInCatalog, PolicyError

R = TypeVar("R")
S = TypeVar("S")
_UNKNOWN_KIND = ("invalid config entry kind", "is no kind of config entry")
"""Consul's words for a kind that it has not, and the embedded catalog's."""
_TOKEN_CHARS = 64
_BUSY = "answered 429 "
_MARKS = ("CreateIndex", "ModifyIndex", "Hash")
_OF_SERVICES = ("service-defaults", "service-router", "service-splitter", "service-resolver")
_RIGHTS = {INTENTIONS: rights.to_intentions(), **dict.fromkeys(_OF_SERVICES, rights.SERVICES)}
"""To see all config entries of a kind; those that belong to no service are seen by everybody."""
_TRIES = 5  # of a trail against other writers


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry of the catalog."""

    key: Key
    body: dict[str, Any]
    """What it says; as it came, where this version does not understand it."""
    index: int
    entry: Entry | None
    """None: this version does not understand it."""


class PolicyStore:
    """The entries of one catalog, for one command; remembers which kinds it has not."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._in_kv = {kind.name: True for kind in KINDS.values() if kind.is_own}
        self.is_blind = False
        """The catalog deleted an entry without comparing its index."""

    def place(self, kind: str) -> str:
        """Where entries of a kind are: `config`, or the prefix in the KV store."""
        return f"{OWN_PREFIX}/{kind}" if self.is_in_kv(kind) else "config"

    def is_in_kv(self, kind: str) -> bool:
        """Whether the catalog has no such kind of config entry; asks it where that is not known yet."""
        if kind not in self._in_kv:
            self._read_config(kind)
        return self._in_kv[kind]

    def rights_to(self, kind: str | None, *, with_trails: bool = False) -> list[rights.Right]:
        """What it takes to be shown every entry of a kind, or of all."""
        keys = rights.to_keys(f"{OWN_PREFIX}/{kind}/" if kind else f"{OWN_PREFIX}/")
        needed = [keys if self.is_in_kv(each) else _RIGHTS.get(each) for each in ((kind,) if kind else KINDS)]
        if with_trails:
            needed += [rights.to_keys(f"{AUDIT_PREFIX}/"), rights.to_intentions() if kind in (None, INTENTIONS) else None]
        return [right for right in dict.fromkeys(needed) if right]

    def read_all(self) -> dict[Key, Stored]:
        """Every entry of every kind."""
        return {stored.key: stored for kind in KINDS for stored in self.read_kind(kind)}

    def read_kind(self, kind: str) -> list[Stored]:
        """Every entry of a kind, by name."""
        rows = [] if self._in_kv.get(kind) else self._read_config(kind)
        if not self._in_kv[kind]:
            return _by_name(_stored(kind, row, _index(row)) for row in rows)
        found = self._read_values(f"{OWN_PREFIX}/{kind}/")
        return _by_name(_kept(Key(kind, name), _table(value), index) for name, value, index in found)

    def read(self, key: Key) -> Stored | None:
        """One entry."""
        try:
            if self.is_in_kv(key.kind):
                value = _only(_values(self._ask("GET", self._kv_path(key))))
                return _kept(key, _table(value.content), value.modify_index)
            row = _only(_entries([self._ask("GET", self._config_path(key))]))
            return _stored(key.kind, row, _index(row))
        except NotInCatalog:
            return None

    def read_strays(self) -> list[str]:
        """Keys among our entries in the KV store that are none: of a kind that this version does not know, or without a name."""
        parts = ((key, *key.removeprefix(f"{OWN_PREFIX}/").partition("/")) for key in self._keys(f"{OWN_PREFIX}/"))
        return [key for key, kind, _, name in parts if kind not in KINDS or not name]

    def write(self, entry: Entry, index: int) -> bool:
        """Whether the entry was written: it was not, if its index is not `index` any more; 0: there was none.

        Without the only namespace and partition: Consul's community edition refuses to hear of them.

        Raises:
            CatalogError: refused, or out of reach.
        """
        if self.is_in_kv(entry.key.kind):
            return self._ask("PUT", self._kv_path(entry.key), entry.said, cas=str(index)) is not False
        return self._ask("PUT", "/v1/config", entry.said, cas=str(index)) is not False

    def delete(self, key: Key, index: int) -> bool:
        """Whether the entry was deleted; as `write`.

        Consul 1.8 deletes a config entry whatever its index is, so that is looked at a moment before.
        """
        if self.is_in_kv(key.kind):
            return self._ask("DELETE", self._kv_path(key), cas=str(index)) is not False
        there = self.read(key)
        if there is None or there.index != index:
            return False
        answer = self._ask("DELETE", self._config_path(key), cas=str(index))
        self.is_blind = self.is_blind or not isinstance(answer, bool)
        return answer is not False

    def remove_left_over(self, keys: Iterable[Key]) -> list[Key]:
        """Which of these the KV store still had, from before this catalog had such entries; it has not any more.

        An upgrade of Consul leaves them there, and hosts that come new would find two words for one thing. Who may not look removes nothing.

        Raises:
            CatalogError: not all were removed.
        """
        moved = [key for key in keys if not self.is_in_kv(key.kind)]
        try:
            there = {name for kind in {key.kind for key in moved} for name in self._keys(f"{OWN_PREFIX}/{kind}/")}
        except CatalogError:
            return []
        left = [key for key in moved if f"{OWN_PREFIX}/{key.kind}/{key.name}" in there]
        for key in left:
            self._ask("DELETE", self._kv_path(key))
        return left

    def rows_to(self, destinations: Collection[str]) -> tuple[IntentionRow, ...]:
        """The rows of these destinations in a Consul that has no entries for them; an entry in the KV store stands in their place."""
        if not destinations or not self.is_in_kv(INTENTIONS):
            return ()
        rows = parse_legacy_intentions(json.dumps(self._ask("GET", LEGACY_INTENTIONS)).encode())
        return tuple(row for row in rows if row.destination in destinations)

    def read_rows(self, keys: Collection[Key]) -> dict[Key, Stored]:
        """What the rows of destinations say, each as the entry as which `nodeagent intention` keeps it in the trail."""
        sources: dict[str, list[dict[str, str]]] = {}
        for row in self.rows_to({key.name for key in keys if key.kind == INTENTIONS}):
            sources.setdefault(row.destination, []).append({"Name": row.source, "Action": row.action})
        stored = (_stored(INTENTIONS, {"Kind": INTENTIONS, "Name": name, "Sources": found}, 0) for name, found in sources.items())
        return {each.key: each for each in stored}

    def services(self) -> list[str]:
        """The services that the catalog knows."""
        return list(_shaped(self._ask("GET", "/v1/catalog/services") or {}, dict[str, Any]))

    def token(self) -> str:
        """The accessor of the token that is sent; empty where the catalog does not tell."""
        try:
            return str(_shaped(self._ask("GET", "/v1/acl/token/self"), dict[str, Any]).get("AccessorID", ""))[:_TOKEN_CHARS]
        except CatalogError:
            return ""

    # --- trails ------------------------------------------------------------------------------------------------------

    def read_trail(self, key: Key) -> tuple[Trail | None, int]:
        """The trail of an entry, and its index. None: this version does not understand it."""
        try:
            value = _only(_values(self._ask("GET", _trail_path(key))))
        except NotInCatalog:
            return Trail(), 0
        return parse_trail(value.content), value.modify_index

    def read_trails(self, kind: str | None = None) -> Iterator[tuple[Key, Trail | None, int]]:
        """Every trail, or those of a kind, one after another, as `read_trail`."""
        for name, value, index in self._read_values(f"{AUDIT_PREFIX}/{kind}/" if kind else f"{AUDIT_PREFIX}/"):
            of, _, entry = f"{kind}/{name}".partition("/") if kind else name.partition("/")
            if entry:
                yield Key(of, entry), parse_trail(value), index

    def record(self, key: Key, change: Change) -> None:
        """Puts a change into the trail of its entry.

        Raises:
            CatalogError: it was not taken.
        """
        for _ in range(_TRIES):
            trail, index = self.read_trail(key)
            if trail is None:
                raise CatalogError(f"its trail is not understood by this version, and stays as it is: {AUDIT_PREFIX}/{key.kind}/{key.name}")
            if self._ask("PUT", _trail_path(key), msgspec.to_builtins(extended(trail, change)), cas=str(index)) is not False:
                return
        raise CatalogError(f"the trail of {key} was changed by others {_TRIES} times")

    def prune_trails(self) -> None:
        """Removes the trails that rested longest, where there are too many; not those that others wrote to meanwhile.

        What is not understood stays. Who may not look removes nothing: the next one who may will.

        Raises:
            CatalogError: not all that are too many were removed.
        """
        try:
            if len(self._keys(f"{AUDIT_PREFIX}/")) <= limits.POLICY_TRAILS:
                return
        except CatalogError:
            return
        read = ((key, trail, index) for key, trail, index in self.read_trails() if trail is not None)
        rested = sorted((trail.changes[-1].at if trail.changes else 0.0, key, index) for key, trail, index in read)
        for _, key, index in rested[: max(0, len(rested) - limits.POLICY_TRAILS)]:
            self._ask("DELETE", _trail_path(key), cas=str(index))

    def _ask(self, method: str, path: str, body: object = None, **query: str) -> Any:
        """As the client's; again after a while where the catalog takes no more writes of one token for now."""
        for _ in range(limits.POLICY_BUSY_TRIES):
            try:
                return self.client.ask(method, path, body, **query)
            except CatalogError as error:
                if _BUSY not in str(error):
                    raise
            time.sleep(limits.POLICY_BUSY_S)
        return self.client.ask(method, path, body, **query)

    # --- the two places ----------------------------------------------------------------------------------------------

    def _read_config(self, kind: str) -> list[dict[str, Any]]:
        try:
            rows = _entries(self._ask("GET", f"/v1/config/{kind}") or [])
        except NotInCatalog:
            rows = []
        except CatalogError as error:
            if not any(words in str(error) for words in _UNKNOWN_KIND):
                raise
            self._in_kv[kind] = True
            return []
        self._in_kv[kind] = False
        return rows

    def _read_values(self, prefix: str) -> Iterator[tuple[str, bytes, int]]:
        """What is below a prefix, with the rest of the key, a part after another: an answer is not endless."""
        for part, query in _parts(self._keys(prefix), prefix):
            with suppress(NotInCatalog):  # since it was listed
                for row in _values(self._ask("GET", f"/v1/kv/{quote(part)}", **query)):
                    yield row.key.removeprefix(prefix), row.content, row.modify_index

    def _keys(self, prefix: str) -> list[str]:
        try:
            return _shaped(self._ask("GET", f"/v1/kv/{prefix}", keys="true"), list[str])
        except NotInCatalog:
            return []

    @staticmethod
    def _kv_path(key: Key) -> str:
        return f"/v1/kv/{OWN_PREFIX}/{key.kind}/{segment(key.name)}"

    @staticmethod
    def _config_path(key: Key) -> str:
        return f"/v1/config/{key.kind}/{segment(key.name)}"


def change_of(before: Stored | None, after: Entry | None, at: float, by: Actor) -> Change | None:
    """What a change of an entry is in its trail; None where nothing changed."""
    from nodeagent.catalog.policy.texts import hash_of, text_of  # noqa: PLC0415 - YAML, which most commands do not need

    old, new = before.body if before else None, after.said if after else None
    if hash_of(old) == hash_of(new):
        return None
    act: Act = "deleted" if new is None else "changed" if old is not None else "created"
    texts = [text_of(body) if body is not None else "" for body in (old, new)]
    return Change(at, by, act, hash_of(old), hash_of(new), *texts)


def _parts(keys: Sequence[str], prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What to ask for to be told of all keys, of so many at once: prefixes, and keys that are the beginning of others."""
    waiting = [(prefix, keys)]
    while waiting:
        beginning, some = waiting.pop()
        if len(some) <= limits.POLICY_TRAILS_ASKED:
            if some:
                yield beginning, {"recurse": "true"}
            continue
        common, together = os.path.commonprefix(some), dict[str, list[str]]()  # noqa: RUF071 - of keys, letter by letter
        for key in some:
            together.setdefault(key[: len(common) + 1], []).append(key)
        if together.pop(common, None):
            yield common, {}
        waiting.extend(together.items())


def _by_name(found: Iterable[Stored]) -> list[Stored]:
    return sorted(found, key=lambda stored: stored.key)


def _trail_path(key: Key) -> str:
    return f"/v1/kv/{AUDIT_PREFIX}/{key.kind}/{segment(key.name)}"


class _Value(msgspec.Struct, rename="pascal"):
    """A row of the KV store."""

    key: str
    modify_index: int
    value: str | None = None

    @property
    def content(self) -> bytes:
        """What it holds; what is no base64 holds nothing."""
        try:
            return base64.b64decode(self.value or "")
        except ValueError:
            return b""


def _values(answer: object) -> list[_Value]:
    return _shaped(answer, list[_Value])


def _entries(answer: object) -> list[dict[str, Any]]:
    return _shaped(answer, list[dict[str, Any]])


def _only(rows: list[R]) -> R:
    if len(rows) != 1:
        raise CatalogError(f"the catalog's answer is not Consul's: {len(rows)} rows for one key")
    return rows[0]


def _index(row: dict[str, Any]) -> int:
    return _shaped(row.get("ModifyIndex", 0), int)


def _shaped(answer: object, shape: type[S]) -> S:
    """An answer in the shape that Consul's has.

    Raises:
        CatalogError: it has another.
    """
    try:
        return msgspec.convert(answer, shape)
    except msgspec.ValidationError as error:
        raise CatalogError(f"the catalog's answer is not Consul's: {error}") from None


def _table(value: bytes) -> dict[str, Any]:
    """What a key holds, when it is an object; else an empty one."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _stored(kind: str, row: dict[str, Any], index: int) -> Stored:
    """A row of the catalog; what this version does not understand stays as it came."""
    try:
        entry = read_entry(row)
        return Stored(Key(kind, entry.key.name), entry.said, index, entry)
    except PolicyError:
        return Stored(Key(kind, str(row.get("Name", ""))), {k: v for k, v in row.items() if k not in _MARKS}, index, None)


def _kept(key: Key, value: dict[str, Any], index: int) -> Stored:
    """What a key of the KV store holds: an entry of the key's kind and name, whatever it calls itself."""
    said = {word: each for word, each in value.items() if fold(word) not in ("kind", "name")}
    try:
        entry = read_entry({"Kind": key.kind, "Name": key.name, **said}) if value else None
    except PolicyError:
        entry = None
    return Stored(key, entry.said if entry else value, index, entry)
