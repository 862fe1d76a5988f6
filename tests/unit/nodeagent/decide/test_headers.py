"""Header fields on their way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent import limits
from nodeagent.decide.headers import (
    NO_EDITS,
    Caller,
    Ids,
    _kind,
    client_certificate,
    edited,
    edits_of,
    for_agent,
    for_application,
    read_told,
)
from nodeagent.errors import Loop
from nodeagent.model.message import Headers
from nodeagent.model.policy.values import HeaderEdits

IDS = Ids(b"r-1", b"0" * 31 + b"1", b"0" * 15 + b"2")
WEB, SHOP = b"spiffe://td/ns/default/dc/dc1/svc/web", b"spiffe://td/ns/default/dc/dc1/svc/shop"
CALLER = Caller(WEB, SHOP, b"ab12")
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FORGED = [
    "x-forwarded-client-cert", "X-Forwarded-Client-Cert", "x_forwarded_client_cert", "X-Forwarded_Client-Cert", "x-spiffe-id", "X_Spiffe_Id", "x-mesh-source",
    "x_mesh_source", "x-nodeagent-source", "X-NodeAgent_Hops", "x_nodeagent_hops", "forwarded", "Forwarded", "x_forwarded_for", "X_Request_Id", "x_request-id",
    "x.forwarded.client.cert", "x-forwarded~client-cert", "X*Spiffe*Id", "x.nodeagent.hops",
]  # fmt: skip


def values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for each, value in headers if each.lower() == name]


def fields(*pairs: str) -> Headers:
    made = (pair.partition(": ") for pair in pairs)
    return [(name.encode(), value.encode()) for name, _, value in made]


# --- edits ---------------------------------------------------------------------------------------------------------


def test_fields_are_removed_set_and_added() -> None:
    """In any case of their names; the others stay in their order."""
    edits = edits_of([HeaderEdits(add={"X-New": "1"}, set_={"x-b": "2"}, remove=("X-C",))])
    assert fields("X-A: 0", "x-b: 2", "X-New: 1") == edited(fields("X-A: 0", "X-B: 0", "X-B: 1", "x-c: 0"), edits)


def test_an_addition_leaves_what_is_there() -> None:
    """And no edit costs nothing."""
    headers = fields("x-a: 0")
    assert fields("x-a: 0", "x-a: 1") == edited(headers, edits_of([HeaderEdits(add={"x-a": "1"})]))
    assert headers is edited(headers, edits_of([None, HeaderEdits()]))
    assert edits_of([]) == NO_EDITS


@pytest.mark.parametrize(
    "name",
    ["Host", "content-length", "Content_Length", "Transfer-Encoding", "connection", "TE", "trailer", "upgrade", "expect", "x-forwarded-client-cert",
     "X_Forwarded_Client_Cert", "x-spiffe-id", "x-nodeagent-hops", "forwarded", "", "a b", "a:b", "a\r\nb", "é"],
)  # fmt: skip
def test_entries_edit_neither_framing_nor_identity(name: str) -> None:
    """Nor names that are none."""
    assert edits_of([HeaderEdits(add={name: "1"}, set_={name: "1"}, remove=(name,))]) == NO_EDITS


@pytest.mark.parametrize("value", ["a\r\nx-b: 1", "a\nb", "a\rb", "a\0b", "a\x7fb"])
def test_a_value_ends_no_line(value: str) -> None:
    """Whoever writes entries does not write messages."""
    assert () == edits_of([HeaderEdits(add={"x-a": value}, set_={"x-b": value})]).put


# --- who calls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORGED)
def test_nobody_forges_what_agents_say(name: str) -> None:
    """Not with underscores, which some applications take for dashes, not twice, and not beside a real one."""
    told = read_told([(b"x-a", b"1"), (name.encode(), b"evil"), (name.encode(), b"evil"), (b"x-z", b"2")])
    for made in (for_agent(told, IDS), for_application(told, IDS, CALLER, b"10.0.0.1")):
        assert b"evil" not in [value for _, value in made]
        assert fields("x-a: 1", "x-z: 2") == made[:2]


def test_the_callee_says_who_calls() -> None:
    """In Envoy's form, once, with address and hops."""
    made = for_application(read_told(fields("x-a: 1", "x-forwarded-for: 192.0.2.1", "X-Forwarded-For: 192.0.2.2")), IDS, CALLER, b"10.0.0.1")
    assert [
        (b"x-a", b"1"),
        (b"x-request-id", b"r-1"),
        (b"traceparent", b"00-00000000000000000000000000000001-0000000000000002-00"),
        (b"x-forwarded-for", b"192.0.2.1, 192.0.2.2, 10.0.0.1"),
        (b"x-forwarded-client-cert", b"By=" + WEB + b";Hash=ab12;URI=" + SHOP),
        (b"x-nodeagent-hops", b"1"),
    ] == made


def test_who_is_unknown_or_has_no_certificate() -> None:
    """On one host there is no certificate; without an identity nothing is said."""
    assert b"By=" + WEB + b";URI=" + SHOP == client_certificate(Caller(WEB, SHOP))
    assert client_certificate(Caller(WEB, b"")) == b""
    made = for_application(read_told([]), IDS, Caller(WEB, b""), b"10.0.0.1")
    assert [] == values(made, b"x-forwarded-client-cert")


# --- names of requests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "kept"), [(["abc-1.Z"], True), ([""], False), (["a b"], False), (["a" * 129], False), (["a", "b"], False), (['a"b'], False), ([], False)])
def test_a_request_keeps_its_id_if_it_is_one(said: list[str], *, kept: bool) -> None:
    """Else it gets one."""
    made = for_agent(read_told(fields(*(f"X-Request-Id: {each}" for each in said))), IDS)
    assert [said[0].encode() if kept else b"r-1"] == values(made, b"x-request-id")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (TRACE, True),
        (TRACE.upper(), False),
        (b"ff" + TRACE[2:], False),
        (b"00-" + b"0" * 32 + TRACE[35:], False),
        (TRACE[:36] + b"0" * 16 + b"-01", False),
        (TRACE + b"-x", False),
        (b"", False),
    ],
)
def test_a_trace_goes_on_or_begins(said: bytes, *, kept: bool) -> None:
    """One that is malformed begins anew, and what belonged to it goes with it."""
    made = for_agent(read_told([(b"TraceParent", said), (b"tracestate", b"a=1"), (b"x-a", b"1")]), IDS)
    assert [said if kept else b"00-" + IDS.trace + b"-" + IDS.span + b"-00"] == values(made, b"traceparent")
    assert kept == bool(values(made, b"tracestate"))


def test_agents_leave_the_names_of_the_caller_s_agent() -> None:
    """From one to the other a request is the same."""
    first = for_agent(read_told([]), IDS)
    other = for_application(read_told(first), Ids(b"r-2", b"3" * 32, b"4" * 16), CALLER, b"10.0.0.1")
    assert [b"r-1"] == values(other, b"x-request-id")
    assert values(first, b"traceparent") == values(other, b"traceparent")


# --- hops ----------------------------------------------------------------------------------------------------------


def test_a_circle_of_applications_ends() -> None:
    """Each passes on what it got; after REQUEST_HOPS agents the request is refused, by the callee's and by the caller's."""
    headers: Headers = []
    for hop in range(limits.REQUEST_HOPS):
        headers = for_application(read_told(for_agent(read_told(headers), IDS)), IDS, CALLER, b"10.0.0.1")
        assert [b"%d" % (hop + 1)] == values(headers, b"x-nodeagent-hops")
    with pytest.raises(Loop):
        for_application(read_told(headers), IDS, CALLER, b"10.0.0.1")
    with pytest.raises(Loop):
        for_agent(read_told(fields(f"x-nodeagent-hops: {limits.REQUEST_HOPS + 1}")), IDS)


@pytest.mark.parametrize(("said", "hops"), [(["3"], 3), (["3", "5"], 5), (["-1"], 0), (["x"], 0), (["1e3"], 0), (["99999"], 0), ([], 0)])
def test_hops_are_counted_from_what_is_said(said: list[str], hops: int) -> None:
    """The most, of several; what is no number is none."""
    assert hops == read_told(fields(*(f"x-nodeagent-hops: {each}" for each in said))).hops


def test_names_are_remembered_within_bounds() -> None:
    """However many, and however long ones, anybody makes up."""
    _kind.cache_clear()
    read_told([(b"x-%d" % number, b"") for number in range(2 * limits.HEADER_NAMES_KEPT)])
    assert _kind.cache_info().currsize == limits.HEADER_NAMES_KEPT
    _kind.cache_clear()
    long = b"x" * 65
    assert [(long, b"")] == read_told([(long, b""), (b"x-mesh-" + long, b"")]).others
    assert _kind.cache_info().currsize == 0


@given(st.lists(st.tuples(st.text(alphabet="xX-_abforwcltniqueds", max_size=24).map(str.encode), st.binary(max_size=5)), max_size=8))
def test_whatever_comes_one_of_each_goes(headers: Headers) -> None:
    """And nothing of the others is lost or moved."""
    made = for_application(read_told(headers), IDS, CALLER, b"10.0.0.1")
    for name in (b"x-request-id", b"traceparent", b"x-forwarded-for", b"x-forwarded-client-cert", b"x-nodeagent-hops"):
        assert len([each for each, _ in made if each.lower().replace(b"_", b"-") == name]) == 1
    assert made[:-5] == [field for field in headers if not is_told_by_agents(field[0].lower().replace(b"_", b"-"))]


def is_told_by_agents(name: bytes) -> bool:
    said = (b"x-request-id", b"traceparent", b"x-forwarded-for", b"x-forwarded-client-cert", b"forwarded")
    return name in said or name.startswith((b"x-nodeagent-", b"x-mesh-", b"x-spiffe-"))
