"""A hostile catalog gives CatalogError, and nothing else."""

import contextlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.catalog import state
from nodeagent.catalog.codec import decode_snapshot, encode_snapshot
from nodeagent.catalog.compiler import capture_of, compile_snapshot, notes_of
from nodeagent.catalog.legacy_intentions import parse_legacy_intentions
from nodeagent.catalog.state import CatalogState
from nodeagent.decide.route import find_destination
from nodeagent.errors import CatalogError
from tests.support.mesh import config

KEYS = st.sampled_from(
    ["Node", "Address", "TaggedAddresses", "Meta", "Service", "ID", "Port", "Weights", "Passing", "Checks", "Status", "Name", "Sources",
     "Action", "Permissions", "Type", "Namespace", "Protocol", "Config", "protocol", "lan", "lan_ipv4", "lan_ipv6", "nodeagent", "JWT"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(
        ["10.0.0.1", "127.0.0.1", "::", "fe80::1%x", "10.77.0.1", "10.0.0.256", "db.example", "*", "", "allow", "deny", "http", "global",
         "15008;v1", "99999;v1", "host1", "web", "\x00", "\u202e"]
    ),
)  # fmt: skip
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25)
NODES = st.fixed_dictionaries({"Node": SCALARS}, optional={"Address": SCALARS, "TaggedAddresses": JSON, "Meta": JSON})
SERVICES = st.fixed_dictionaries({}, optional=dict.fromkeys(("ID", "Address", "Port", "TaggedAddresses", "Weights"), SCALARS | JSON))
SOURCES = st.fixed_dictionaries({"Name": SCALARS}, optional=dict.fromkeys(("Action", "Permissions", "Type", "Peer"), SCALARS | JSON))
ROWS = st.one_of(
    NODES,
    st.fixed_dictionaries({"Node": NODES, "Service": SERVICES}, optional={"Checks": JSON}),
    st.fixed_dictionaries({"Name": SCALARS, "Sources": st.lists(SOURCES, max_size=2)}, optional={"JWT": JSON}),
    st.fixed_dictionaries({"Name": SCALARS}, optional={"Protocol": SCALARS, "Config": JSON}),
    st.fixed_dictionaries(
        {"SourceName": SCALARS, "DestinationName": SCALARS}, optional=dict.fromkeys(("Action", "SourceNS", "Permissions", "Meta"), SCALARS | JSON)
    ),
    JSON,
)
ANSWERS = st.lists(ROWS, max_size=3) | JSON

PARSERS: list[Callable[[bytes], object]] = [
    state.parse_hosts,
    state.parse_service_names,
    lambda body: state.parse_instances("web", body),
    state.parse_intentions,
    state.parse_service_defaults,
    state.parse_proxy_defaults,
    parse_legacy_intentions,
]


@pytest.mark.parametrize("parse", PARSERS)
@given(answer=ANSWERS)
def test_any_json_is_an_answer_or_a_catalog_error(parse: Callable[[bytes], object], answer: object) -> None:
    """Also NaN, infinities and lone surrogates, which Python's encoder lets through."""
    with contextlib.suppress(CatalogError):
        parse(json.dumps(answer).encode())


@given(st.lists(NODES, max_size=3), st.dictionaries(st.text(max_size=4) | st.just("web"), ANSWERS, max_size=3), st.lists(ROWS, max_size=3))
def test_whatever_was_parsed_compiles(nodes: object, services: dict[str, object], entries: object) -> None:
    """And survives the way to a worker; every registered address leads somewhere."""
    parsed = CatalogState(
        hosts=attempt(state.parse_hosts, nodes) or (),  # type: ignore[arg-type]
        instances={name: attempt(PARSERS[2], rows) or () for name, rows in services.items()},  # type: ignore[misc]
        intentions=attempt(state.parse_intentions, entries) or (),  # type: ignore[arg-type]
    )
    snapshot = compile_snapshot(parsed, config(), trust_domain="td", generation=1)
    assert snapshot == decode_snapshot(encode_snapshot(snapshot))
    assert all(isinstance(note, str) for note in notes_of(parsed))
    assert "127.0.0.1" not in capture_of(snapshot).addresses
    for address in snapshot.by_address:
        assert address == find_destination(snapshot, address, dst_is_local=False).address  # type: ignore[arg-type]


def attempt(parse: Callable[[bytes], object], answer: object) -> object:
    """What is parsed, or None."""
    with contextlib.suppress(CatalogError):
        return parse(json.dumps(answer).encode())
    return None
