"""One spelling of each path."""

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from nodeagent.decide.path import (
    PathRules,
    Rewrite,
    normalize,
    other_readings,
    path_rules,
    read_path,
    rule_path,
    rule_prefix,
)
from nodeagent.errors import AmbiguousPath
from nodeagent.model.policy.defaults import Normalization

KEEP = PathRules(slashes="keep")
PIECES = [b"/", b"//", b".", b"..", b"/./", b"/../", b"a", b"admin", b"%61", b"%2e", b"%2E", b"%2f", b"%5c", b"%25", b"%", b"2e", b"2f", b";", b"%3b", b"x",
          b"\\", b"%c3%a9", b"%e9", b"%c0%ae", b"%20", b"!", b"%21", b"%00", b"%0a", b"+", b"?", b"&../"]  # fmt: skip
targets = st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: b"/" + b"".join(pieces))


@pytest.mark.parametrize(
    ("target", "normal"),
    [
        (b"/", b"/"),
        (b"*", b"*"),
        (b"/a/b.html?x=1/../2&y=%2f", b"/a/b.html?x=1/../2&y=%2f"),
        (b"/a/./b/../c", b"/a/c"),
        (b"//a///b//", b"/a/b/"),
        (b"/a/..", b"/"),
        (b"/a/b/..", b"/a/"),
        (b"/a/.", b"/a/"),
        (b"/%61%7e%2Dz", b"/a~-z"),
        (b"/a%2e%2e/b", b"/a../b"),
        (b"/x/%2e%2e/b", b"/b"),
        (b"/a%3bb%2c", b"/a%3Bb%2C"),
        (b"/a;b=1/c", b"/a;b=1/c"),
        (b"/caf%c3%a9", b"/caf%C3%A9"),
        (b"/.well-known/x", b"/.well-known/x"),
        (b"/...", b"/..."),
    ],
)
def test_a_path_has_one_spelling(target: bytes, normal: bytes) -> None:
    """Dot segments, slashes and needless escapes are gone; the query and what is escaped with reason stay."""
    assert normal == normalize(target)


@pytest.mark.parametrize(
    "target",
    [
        b"a", b"", b"?x", b"/a%2fb", b"/a%2Fb", b"/a%5cb", b"/a\\b", b"/a%00", b"/a%0a", b"/a%7f", b"/a%", b"/a%2", b"/a%zz", b"/a#b", b"/a b", b"/\xc3\xa9",
        b"/%ff", b"/%c0%af", b"/%c0%ae%c0%ae/", b"/%ed%a0%80", b"/a%252fb", b"/a%255c", b"/%252e%252e/b", b"/a%2500", b"/a%25252f", b"/..", b"/../a",
        b"/a/../../b", b"/%2e%2e/a", b"/a/..;/b", b"/a/.;x/b", b"/a/..%3bx", b"/a/%2e%2e;/b", b"/\x00", b"/a\x7f",
    ],
)  # fmt: skip
def test_what_applications_read_in_two_ways_is_refused(target: bytes) -> None:
    """Escaped slashes, backslashes and controls, what is no UTF-8, what is escaped twice, what leaves the root."""
    with pytest.raises(AmbiguousPath):
        normalize(target)


@given(targets)
@example(b"/a%2e/%2e%2e/b;x//c")
def test_what_is_normal_stays_so(target: bytes) -> None:
    """To normalize twice is to normalize once."""
    for rules in (PathRules(), KEEP, PathRules(slashes="unescape")):
        try:
            normal = normalize(target, rules)
        except AmbiguousPath:
            continue
        assert normal == normalize(normal, rules)


def file_of(target: bytes) -> bytes | None:
    """The file that a server such as nginx takes for a target; None: it answers 400."""
    path = unquote_to_bytes(target.partition(b"?")[0])
    if b"\0" in path or re.search(rb"%(?![0-9A-Fa-f]{2})", target.partition(b"?")[0]):
        return None
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            if not kept:
                return None
            kept.pop()
        elif segment not in (b"", b"."):
            kept.append(segment)
    return b"/" + b"/".join(kept)


@given(targets)
@example(b"/a/%2e%2e/admin")
@example(b"/%61dmin")
@example(b"/admin%21")
def test_every_spelling_of_a_file_is_read_alike(target: bytes) -> None:
    """Whatever a server makes of a target, the rules read the same; or the request goes nowhere."""
    try:
        normal = normalize(target)
    except AmbiguousPath:
        assume(False)
        return
    found = file_of(target)
    assert found is not None
    assert found == file_of(normal)
    assert found in (read_path(normal), read_path(normal)[:-1])


@pytest.mark.parametrize(
    ("said", "rules"),
    [
        (None, PathRules()),
        (Normalization(), PathRules()),
        (Normalization(insecure_disable_path_normalization=True), PathRules(is_off=True)),
        (Normalization(path_with_escaped_slashes_action="KEEP_UNCHANGED"), KEEP),
        (Normalization(path_with_escaped_slashes_action="UNESCAPE_AND_FORWARD"), PathRules(slashes="unescape")),
        (Normalization(path_with_escaped_slashes_action="UNESCAPE_AND_REDIRECT"), PathRules()),
        (Normalization(path_with_escaped_slashes_action="REJECT_REQUEST"), PathRules()),
    ],
)
def test_the_mesh_entry_says_how_paths_are_read(said: Normalization | None, rules: PathRules) -> None:
    """What it leaves open, or what agents do not do, is read strictly."""
    assert rules == path_rules(said)


@pytest.mark.parametrize(
    ("rules", "target", "normal"),
    [
        (PathRules(is_off=True), b"//a/%2f/..", b"//a/%2f/.."),
        (KEEP, b"/g%2fp/./x", b"/g%2Fp/x"),
        (KEEP, b"/g%5cp", b"/g%5Cp"),
        (PathRules(slashes="unescape"), b"/g%2fp", b"/g/p"),
        (PathRules(slashes="unescape"), b"/g%2f..%5cp", b"/p"),
    ],
)
def test_an_operator_can_have_it_otherwise(rules: PathRules, target: bytes, normal: bytes) -> None:
    """Escaped slashes stay, or become slashes before anything is decided; or nothing is touched."""
    assert normal == normalize(target, rules)


@pytest.mark.parametrize("target", [b"/a%2f../b", b"/a%2f..%2fb", b"/a%5c..%5cb", b"/x/%2e%2e%2fb"])
def test_a_slash_that_stays_hides_no_dot_segment(target: bytes) -> None:
    """An application that decodes it would leave the directory."""
    with pytest.raises(AmbiguousPath):
        normalize(target, KEEP)


@pytest.mark.parametrize(
    ("said", "read"),
    [("/a b", b"/a b"), ("/a%20b", b"/a b"), ("/é", "/é".encode()), ("/a//b/", b"/a/b/"), ("/a;b", b"/a;b"), ("/what?", b"/what?"), ("/a%2fb", b"/a%2Fb")],
)
def test_paths_of_rules_are_read_as_those_of_requests(said: str, read: bytes) -> None:
    """However they are written in an entry."""
    assert read == rule_path(said)


@pytest.mark.parametrize(("said", "read"), [("/", b"/"), ("/.", b"/."), ("/a/..", b"/a/.."), ("/a/.g", b"/a/.g"), ("//a", b"/a"), ("/a/%2eg", b"/a/.g"), ("/a/", b"/a/")])
def test_a_prefix_may_end_within_a_segment(said: str, read: bytes) -> None:
    """`/.` speaks of files that begin with a dot, and not of all."""
    assert read == rule_prefix(said)


@pytest.mark.parametrize("said", ["/a\\b", "/a%00", "/..", "/a%252f"])
def test_a_rule_may_speak_of_no_request(said: str) -> None:
    """None with such a path comes so far."""
    with pytest.raises(AmbiguousPath):
        rule_path(said)


def test_other_readings_are_those_of_applications() -> None:
    """Escaped as it came, without parameters, with its slashes."""
    assert () == other_readings(b"/a/b?x;y%20")
    assert {b"/a b", b"/a%20b"} == set(other_readings(b"/a%20b"))
    assert b"/admin/x" in other_readings(b"/admin;v=1/x")
    assert b"/admin/x" in other_readings(b"/admin%2Fx")
    assert b"/admin/x" in other_readings(b"/admin%5Cx")


@pytest.mark.parametrize(
    ("matched", "by", "target", "there"),
    [
        ("/api/", "/", b"/api/x?q", b"/x?q"),
        ("/api", "/", b"/api/x", b"/x"),
        ("/api/", "/v 2/", b"/api/x/", b"/v%202/x/"),
        ("/a b", "/c", b"/a%20b/x", b"/c/x"),
        ("/a", "/b", b"/a", b"/b"),
        ("/g%2Fp", "/q", b"/g%2Fp/x", b"/q/x"),
        ("/é", "/e", b"/%C3%A9/x", b"/e/x"),
    ],
)
def test_a_prefix_is_rewritten(matched: str, by: str, target: bytes, there: bytes) -> None:
    """Whatever is escaped in it; the query stays, and the result is a normal path."""
    assert there == Rewrite.of(matched, by)(target)


def test_a_rewrite_does_not_leave_the_root() -> None:
    """`/api..` begins with `/api`."""
    with pytest.raises(AmbiguousPath):
        Rewrite.of("/api", "/")(b"/api..")
