"""The catalog's JSON from both sides: answers that an agent reads, and bodies that the embedded catalog is sent."""

import base64
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from nodeagent.catalog import state
from nodeagent.catalog.bexpr import BadFilter
from nodeagent.catalog.bexpr_rows import question
from nodeagent.catalog.codec import decode_snapshot, encode_snapshot
from nodeagent.catalog.compiler import capture_of, compile_snapshot, notes_of
from nodeagent.catalog.entry_lists import NO_ENTRIES, parse_entries
from nodeagent.catalog.inventory import InventoryReader
from nodeagent.catalog.kept_intentions import PREFIX, parse_kept
from nodeagent.catalog.legacy_intentions import parse_legacy_intentions
from nodeagent.catalog.registered import services_at
from nodeagent.catalog.state import CatalogState
from nodeagent.catalog.traffic import ROUTING, ways_of
from nodeagent.control import json_http, pace
from nodeagent.embedded.asking import parse_wait
from nodeagent.embedded.authority_api import _HeldRequest, _SignRequest
from nodeagent.embedded.body import parse_object, shaped
from nodeagent.embedded.entries import normal_entry, normal_source
from nodeagent.embedded.filters import HEALTH
from nodeagent.embedded.intentions import end_name, rows_of, with_source, without_source
from nodeagent.embedded.refusal import Refusal
from nodeagent.embedded.registration import parse_agent_service, parse_registration, parse_removal
from nodeagent.embedded.tokens_api import TokenRequest
from nodeagent.errors import CatalogError
from tests.support.mesh import config


def _taken(parse: Callable[[bytes], Any], data: bytes) -> Any:
    """What is parsed; None: refused."""
    try:
        return parse(data)
    except CatalogError as error:
        assert str(error)
        return None


def catalog_answer(data: bytes) -> bool:
    """Any body is each kind of answer, or a CatalogError; and whatever was parsed compiles and reaches a worker."""
    hosts, intentions = _taken(state.parse_hosts, data), _taken(state.parse_intentions, data)
    instances = _taken(lambda body: state.parse_instances("web", body), data)
    others = [_taken(parse, data) for parse in _OTHERS]
    entries = [_taken(partial(parse_entries, kind), data) or NO_ENTRIES for kind in ROUTING]
    routers, splitters, resolvers = (each.specs for each in entries)
    unread = {f"{kind}/{name}": why for kind, each in zip(ROUTING, entries, strict=True) for name, why in each.unread.items()}
    parsed = CatalogState(hosts or (), {"web": instances or ()}, intentions or (), routers=routers, splitters=splitters, resolvers=resolvers, unread=unread)
    snapshot = compile_snapshot(parsed, config(), trust_domain="td", generation=1)
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot
    assert all(isinstance(note, str) for note in notes_of(parsed))
    assert "127.0.0.1" not in capture_of(snapshot).addresses
    assert ways_of(routers, splitters, resolvers) is not None
    return any((hosts, intentions, instances, unread, routers, splitters, resolvers, *others))


def _inventory(body: bytes) -> tuple[object, ...]:
    """What it holds; the same again is the same."""
    reader = InventoryReader()
    read = reader.read(body)
    assert reader.read(body) == read
    return (*read.instances, *read.refused)


_OTHERS = (
    parse_legacy_intentions,
    parse_kept,
    state.parse_service_names,
    state.parse_unusable_names,
    state.parse_service_defaults,
    state.parse_proxy_defaults,
    _inventory,
    services_at,
    lambda body: json_http.parse_answer(200, body, "GET /v1/x"),
    lambda body: json_http.parse_answer(500, body, "GET /v1/x"),
)


def kept_intentions(data: bytes) -> bool:
    """What a key of the KV store holds: an entry's rows, or a deny of its destination; of no other destination in any case."""
    row = {"Key": f"{PREFIX}web", "Value": base64.b64encode(data).decode()}
    rows = parse_kept(msgspec.json.encode([row])).rows["web"]
    assert all(each.destination == "web" for each in rows)
    return not any("not understood" in each.note for each in rows)


def catalog_body(data: bytes) -> bool:
    """A body that the embedded catalog takes as any of its shapes, or a Refusal; what it keeps it would take again."""
    try:
        body = parse_object(data)
    except Refusal:
        return False
    return sum(_is_taken(shape, body) for shape in _SHAPES) > 0


def _is_taken(shape: Callable[[dict[str, Any]], object], body: dict[str, Any]) -> bool:
    with contextlib.suppress(Refusal):
        shape(body)
        return True
    return False


def _entry(body: dict[str, Any]) -> None:
    kept = normal_entry(body)
    assert normal_entry(kept) == kept == msgspec.json.decode(msgspec.json.encode(kept))
    if "Sources" in kept:
        assert rows_of(kept, 1, 1)
        one = kept["Sources"][0]["Name"]
        left = without_source(kept, one)
        assert left is None or one not in [source["Name"] for source in left["Sources"]]


def _token(body: dict[str, Any]) -> None:
    asked = shaped(body, TokenRequest, ("Local",))
    assert asked.kind()
    asked.claimable()


_SHAPES: tuple[Callable[[dict[str, Any]], object], ...] = (
    _entry,
    _token,
    lambda body: parse_agent_service(body, "host1"),
    lambda body: parse_registration(body, "dc1"),
    lambda body: parse_removal(body, "dc1"),
    lambda body: with_source(None, "web", normal_source(body, "web")),
    lambda body: shaped(body, _SignRequest),
    lambda body: shaped(body, _HeldRequest),
)


def catalog_query(data: bytes) -> bool:
    """`?wait=`, `?source=` and the index in an answer's head: a value in bounds, or a Refusal."""
    text = data.decode(errors="surrogateescape")
    assert pace.next_index(5, text) >= 0
    with contextlib.suppress(Refusal):
        assert end_name(text, "source")
    with contextlib.suppress(Refusal):
        return 0 < parse_wait(text) <= 600
    return False


def filter(data: bytes) -> bool:  # noqa: A001 - the name of its corpus, and of the parameter
    """`?filter=`: a question that any row answers with yes or no, or BadFilter."""
    try:
        asks = question(data.decode(errors="replace"), HEALTH)
    except BadFilter as error:
        assert str(error)
        return False
    check = {"Status": "passing", "ServiceTags": ["v1"]}
    rows = ({}, {"Node": {"Meta": {"k": "v"}}, "Service": {"Port": 80, "Tags": ["v1"]}, "Checks": [check]})
    assert all(asks(row) in (True, False) for row in ({"Node": {}, "Service": {}} | row for row in rows))
    return True
