"""Which requests a rule speaks of."""

import pytest

from nodeagent import limits
from nodeagent.decide.match import EVERY_REQUEST, matcher_of
from nodeagent.model.message import CHUNKED
from nodeagent.model.patterns import BadPattern
from nodeagent.model.policy.http import HeaderMatch, HttpMatch, QueryMatch
from nodeagent.model.policy.intentions import PermissionMatch
from tests.support.requests import head, view


def matches(said: HttpMatch | PermissionMatch, line: str, *fields: str, is_wide: bool = False, **facts) -> bool:
    return matcher_of(said, is_wide=is_wide).matches(view(line, *fields, **facts))


@pytest.mark.parametrize(
    ("said", "line", "expected"),
    [
        (HttpMatch(), "GET /", True),
        (HttpMatch(path_exact="/cart"), "GET /cart?x", True),
        (HttpMatch(path_exact="/cart"), "GET /cart/", False),
        (HttpMatch(path_exact="/cart"), "GET /a/../%63art", True),
        (HttpMatch(path_exact="/Cart"), "GET /cart", False),
        (HttpMatch(path_exact="/Cart", case_insensitive=True), "GET /caRt", True),
        (HttpMatch(path_prefix="/Ad", case_insensitive=True), "GET /aDmin", True),
        (HttpMatch(path_prefix="/admin"), "GET /administrator", True),
        (HttpMatch(path_prefix="/admin/"), "GET /admin", False),
        (HttpMatch(path_prefix="/a b"), "GET /a%20bc", True),
        (HttpMatch(path_regex="/v[0-9]+/x"), "GET /v12/x", True),
        (HttpMatch(path_regex="/v[0-9]+"), "GET /v12/x", False),
        (HttpMatch(path_regex="/V1", case_insensitive=True), "GET /v1", True),
        (HttpMatch(path_regex="/é."), "GET /%c3%a9%c3%a9", True),
        (HttpMatch(path_exact="/a\\b"), "GET /a", False),
        (HttpMatch(methods=("get", "POST")), "GET /", True),
        (HttpMatch(methods=("GET",)), "get /", False),
        (HttpMatch(methods=("GET",)), "BREW /", False),
        (HttpMatch(), "BREW /", True),
        (HttpMatch(path_prefix="/"), "OPTIONS *", False),
        (HttpMatch(query_param=(QueryMatch(name="v", exact="2"),)), "GET /?a&v=2", True),
        (HttpMatch(query_param=(QueryMatch(name="v", exact="2"),)), "GET /?v=1&v=2", False),
        (HttpMatch(query_param=(QueryMatch(name="v", exact="a b"),)), "GET /?v=a%20b", True),
        (HttpMatch(query_param=(QueryMatch(name="v", exact="a b"),)), "GET /?v=a+b", False),
        (HttpMatch(query_param=(QueryMatch(name="v", regex="[0-9]"),)), "GET /?v=7", True),
        (HttpMatch(query_param=(QueryMatch(name="v", regex="[0-9]"),)), "GET /", False),
        (HttpMatch(query_param=(QueryMatch(name="v", present=True),)), "GET /?v", True),
        (HttpMatch(query_param=(QueryMatch(name="v", present=True),)), "GET /?vv", False),
        (HttpMatch(path_prefix="/a", methods=("GET",)), "POST /a", False),
    ],
)
def test_what_a_request_line_matches(said: HttpMatch, line: str, *, expected: bool) -> None:
    """Paths are compared in their normal form, decoded; methods as they are; of a parameter the first counts."""
    assert expected == matches(said, line)


@pytest.mark.parametrize(
    ("header", "fields", "expected"),
    [
        ({"present": True}, ["X-A: "], True),
        ({"present": True}, [], False),
        ({"exact": "1"}, ["x-A: 1"], True),
        ({"exact": "1"}, ["x-a: 1", "X-A: 2"], False),
        ({"exact": "1,2"}, ["x-a: 1", "X-A: 2"], True),
        ({"exact": "Ab", "ignore_case": True}, ["x-a: aB"], True),
        ({"exact": "Ab"}, ["x-a: aB"], False),
        ({"prefix": "be"}, ["x-a: beta"], True),
        ({"suffix": "ta"}, ["x-a: beta"], True),
        ({"contains": "et"}, ["x-a: beta"], True),
        ({"contains": "x"}, ["x-a: beta"], False),
        ({"regex": "b.*a"}, ["x-a: beta"], True),
        ({"regex": "b"}, ["x-a: beta"], False),
        ({"exact": "1", "invert": True}, ["x-a: 2"], True),
        ({"exact": "1", "invert": True}, ["x-a: 1"], False),
        ({"exact": "1", "invert": True}, [], True),
        ({"present": True, "invert": True}, [], True),
    ],
)
def test_what_a_header_matches(header: dict[str, object], fields: list[str], *, expected: bool) -> None:
    """Names in any case; several fields together; what is missing matches only what is inverted."""
    said = HttpMatch(header=(HeaderMatch(name="X-a", **header),))
    assert expected == matches(said, "GET /", *fields)


@pytest.mark.parametrize(
    ("name", "exact", "facts"),
    [
        ("Host", "web", {}),
        (":authority", "web", {}),
        (":method", "GET", {}),
        ("Content-Length", "5", {"length": 5}),
        ("Transfer-Encoding", "chunked", {"length": CHUNKED}),
        ("Upgrade", "websocket", {"upgrade": b"websocket"}),
        ("Expect", "100-continue", {"expects_continue": True}),
    ],
)
def test_fields_that_are_told_apart_are_matched_all_the_same(name: str, exact: str, facts: dict[str, object]) -> None:
    """A rule about one of them is not void because the head has it elsewhere."""
    said = PermissionMatch(header=(HeaderMatch(name=name, exact=exact),))
    assert matches(said, "GET /", **facts)
    assert not matches(said, "HEAD /") or name in ("Host", ":authority")


@pytest.mark.parametrize(
    ("said", "line", "fields"),
    [
        (PermissionMatch(methods=("GET",)), "get /", []),
        (PermissionMatch(path_prefix="/admin/x"), "GET /admin;v=1/x", []),
        (PermissionMatch(path_exact="/admin"), "GET /admin%3bx", []),
        (PermissionMatch(path_regex="/a%20b"), "GET /a%20b", []),
        (PermissionMatch(path_exact="/a\\b"), "GET /", []),
        (PermissionMatch(header=(HeaderMatch(name="x-a", exact="1"),)), "GET /", ["x-a: 1", "x-a: 2"]),
        (PermissionMatch(header=(HeaderMatch(name="x-a", exact="1", invert=True),)), "GET /", ["x-a: 1", "x-a: 2"]),
        (PermissionMatch(header=(HeaderMatch(name="x-a", exact="1"),)), "GET /", ["x_a: 1"]),
        (PermissionMatch(header=(HeaderMatch(name="x_a", present=True),)), "GET /", ["X-A: 1"]),
        (PermissionMatch(header=(HeaderMatch(name="x-a", exact="1"),)), "GET /", ["x-a: 2", "X.A: 1"]),
        (PermissionMatch(header=(HeaderMatch(name="x-a", exact="2,1"),)), "GET /", ["x-a: 2", "x_a: 1"]),
    ],
)
def test_a_rule_that_denies_speaks_of_every_reading(said: PermissionMatch, line: str, fields: list[str]) -> None:
    """What an application may take for a denied request is denied; one that allows is for what is certain."""
    assert matches(said, line, *fields, is_wide=True)
    narrow = matches(said, line, *fields)
    assert narrow == (said.header != () and said.header[0].invert)


def test_bytes_that_are_no_text_are_found_by_patterns() -> None:
    """Nobody gets around a pattern by one of them."""
    said = matcher_of(HttpMatch(header=(HeaderMatch(name="x-a", regex="bad.*"),)))
    made = view("GET /")
    made.head.headers.append((b"x-a", b"bad\xff"))
    assert said.matches(made)


def test_only_rules_about_paths_need_normal_ones() -> None:
    """Others leave a request as it is."""
    assert not EVERY_REQUEST.reads_path
    assert not matcher_of(HttpMatch(methods=("GET",), query_param=(QueryMatch(name="v", present=True),))).reads_path
    for said in (HttpMatch(path_exact="/a"), HttpMatch(path_prefix="/"), HttpMatch(path_regex=".*")):
        assert matcher_of(said).reads_path


def test_a_pattern_is_matched_in_linear_time() -> None:
    """Those that are made to take for ever are of no harm: as much as the longest head has is looked at once."""
    subject = b"a" * 65_536 + b"!"
    made = view("GET /")
    made.head.headers.append((b"x-a", subject))
    matcher = matcher_of(HttpMatch(header=(HeaderMatch(name="x-a", regex="(a+)+(a|aa)+(.*a){20}"),)))
    assert not matcher.matches(made)


def test_a_pattern_takes_a_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is too large, or none of RE2's, is refused when it is read."""
    with pytest.raises(BadPattern):
        matcher_of(HttpMatch(path_regex="(?=a)"))
    monkeypatch.setattr(limits, "POLICY_PATTERN_BYTES", 2048)
    with pytest.raises(BadPattern):
        matcher_of(HttpMatch(path_regex="(a{1,100}){1,10}"))


def test_the_head_is_not_touched() -> None:
    """What rules read is a copy."""
    before = head("GET /", "X-A: 1")
    matches(HttpMatch(header=(HeaderMatch(name="x-a", exact="1"),)), "GET /", "X-A: 1")
    assert before == head("GET /", "X-A: 1")
