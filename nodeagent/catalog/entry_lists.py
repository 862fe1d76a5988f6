"""Lists of config entries, each by itself: one that is not understood keeps no other service's news away; pure.

What did not change is not read again: to read an entry takes a millisecond, and there may be one for each service.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from nodeagent import limits
from nodeagent.catalog.consul_rows import KeptValue, decode, rows_of
from nodeagent.errors import CatalogError, PolicyError
from nodeagent.model.intention import ANY
from nodeagent.model.names import is_service_name

_KEPT = "nodeagent/config"
_MESH = "mesh"
_SCOPES = ("", "default")


class Read(NamedTuple):
    """One entry."""

    name: str
    spec: Any
    """Of its kind; None: it is not understood."""
    why: str = ""


class EntryList(NamedTuple):
    """All entries of one kind, by name."""

    specs: Mapping[str, Any] = {}
    unread: Mapping[str, str] = {}
    """Those that are not understood, and why."""
    texts: Mapping[bytes, Read] = {}
    """What they were read from."""

    @property
    def names(self) -> frozenset[str]:
        """Of those that are there, understood or not."""
        return frozenset((*self.specs, *self.unread))


NO_ENTRIES = EntryList()


def entries_path(kind: str) -> str:
    """Where the catalog lists them."""
    return f"/v1/config/{kind}"


def kept_entries_path(kind: str) -> str:
    """Where the KV store has those of a kind that is our own, or that the server does not know."""
    return f"/v1/kv/{_KEPT}/{kind}/?recurse=true"


def parse_entries(kind: str, body: bytes, before: EntryList = NO_ENTRIES, *, having: bytes = b"") -> EntryList:
    """The entries in an answer of `entries_path`.

    having: only those whose text has this somewhere: of others nothing is of interest.

    Raises:
        CatalogError: not such an answer, or longer than the limits.
    """
    raws = rows_of(body, msgspec.Raw, entries_path(kind), limits.CATALOG_SERVICES)
    texts = {text: before.texts.get(text) or _read_row(kind, text) for text in map(bytes, raws) if having in text}
    return _listed(texts)


def parse_kept_entries(kind: str, body: bytes, before: EntryList = NO_ENTRIES) -> EntryList:
    """The entries in an answer of `kept_entries_path`; the key is the name, whatever the value calls itself.

    Raises:
        CatalogError: as `parse_entries`.
    """
    where, prefix = kept_entries_path(kind), f"{_KEPT}/{kind}/"
    values = [value for value in rows_of(body, KeptValue, where, limits.CATALOG_SERVICES) if value.key.startswith(prefix)]
    texts: dict[bytes, Read] = {}
    for value in values:
        name = value.key.removeprefix(prefix)
        text = f"{name} {value.value or ''}".encode()
        texts[text] = before.texts.get(text) or _read_kept(kind, name, value.value or "")
    return _listed(texts)


def _listed(texts: Mapping[bytes, Read]) -> EntryList:
    named = {read.name: read for read in texts.values() if is_service_name(read.name) or read.name == ANY}
    return EntryList(
        {name: read.spec for name, read in named.items() if read.spec is not None},
        {name: read.why for name, read in named.items() if read.spec is None},
        texts,
    )


def _read_row(kind: str, text: bytes) -> Read:
    """An entry of the server's; of another namespace or partition it is nobody's here. Consul tells no name of the mesh entry, of which there is one."""
    said = decode(text, dict[str, object], entries_path(kind)) or {}
    if any(said.get(scope, "") not in _SCOPES for scope in ("Namespace", "Partition")):
        return Read("", None)
    return _read(kind, str(said.get("Name") or (_MESH if kind == _MESH else "")), said.items())


def _read_kept(kind: str, name: str, value: str) -> Read:
    try:
        said = decode(base64.b64decode(value, validate=True), dict[str, object], kind) or {}
    except (CatalogError, binascii.Error, ValueError) as error:
        return Read(name, None, _short(error))
    return _read(kind, name, said.items())


def _read(kind: str, name: str, said: Iterable[tuple[str, object]]) -> Read:
    from nodeagent.catalog.policy.entries import read_entry  # noqa: PLC0415 - RE2, 3 MB that an agent needs where there are such entries
    from nodeagent.catalog.policy.fitting import fold  # noqa: PLC0415 - as above

    bare = {word: each for word, each in said if fold(word) not in ("kind", "name")}
    try:
        return Read(name, read_entry({"Kind": kind, "Name": name, **bare}).spec)
    except PolicyError as error:
        return Read(name, None, _short(error.faults[0]))


def _short(why: object) -> str:
    return str(why)[: limits.CATALOG_NAME_CHARS]
