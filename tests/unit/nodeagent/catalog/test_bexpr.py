"""Filter expressions: what is one, what it means, and that any text is a tree or refused."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent import limits
from nodeagent.catalog.bexpr import And, BadFilter, Match, Not, Or, parse_filter

A, B, C = (Match((name,), "==", "1") for name in "abc")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ('Node == "host1"', Match(("Node",), "==", "host1")),
        ("Node==host1", Match(("Node",), "==", "host1")),
        ("Node != `a\\b`", Match(("Node",), "!=", "a\\b")),
        ("Port == -80", Match(("Port",), "==", "-80")),
        ('Service.Meta.zone == "a b"', Match(("Service", "Meta", "zone"), "==", "a b")),
        ('Meta["k.v/ü"]=="\\x41\\u00fc\\n\\\\"', Match(("Meta", "k.v/ü"), "==", "Aü\n\\")),
        ('"v1" in Service.Tags', Match(("Service", "Tags"), "in", "v1")),
        ("v1 not in Tags", Match(("Tags",), "not in", "v1")),
        ("a.b in Tags", Match(("Tags",), "in", "a.b")),
        ("80 in Tags", Match(("Tags",), "in", "80")),
        ("Tags contains v1", Match(("Tags",), "in", "v1")),
        ("Tags not contains `v1`", Match(("Tags",), "not in", "v1")),
        ("Checks is empty", Match(("Checks",), "is empty")),
        ("Checks  is\tnot\nempty", Match(("Checks",), "is not empty")),
        ('Node matches "^db-[0-9]+$"', Match(("Node",), "matches", "^db-[0-9]+$")),
        ("Node not matches `x`", Match(("Node",), "not matches", "x")),
        ("in == not", Match(("in",), "==", "not")),
        ("a == 1 or b == 1 and not c == 1", Or((A, And((B, Not(C)))))),
        ("(a == 1 or b == 1) and c == 1", And((Or((A, B)), C))),
        ("not (a == 1)", Not(A)),
        ("not not a == 1", Not(Not(A))),
        ("((a == 1))", A),
    ],
)
def test_an_expression_is_read_as_consul_reads_it(text, tree):
    assert parse_filter(text) == tree


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "unexpected the end at character 1"),
        ("Node", "unexpected the end"),
        ("Node ==", "unexpected the end at character 8"),
        ("Node = 1", "unexpected '=' at character 6"),
        ("Node == (1)", r"unexpected \( at character 9"),
        ("(Node == 1", "unexpected the end"),
        ("Node == 1)", r"unexpected \) at character 10"),
        ("Node == 1 and", "unexpected the end"),
        ("Node == 1 Node == 2", "unexpected Node at character 11"),
        ('"a" == Node', "unexpected == at character 5"),
        ('"a" in "b"', 'unexpected "b"'),
        ('Node == "a', "unexpected '\"' at character 9"),
        ('Node == "\\q"', "unknown escape"),
        ("Meta[zone] == 1", "unexpected zone"),
        ('Meta["zone" == 1', "unexpected =="),
        ("Meta. == 1", "unexpected =="),
        ("Node == 1.", "unexpected"),
        ("Node == 1a", "unexpected '1'"),
        ("Node > 1", "unexpected '>'"),
        ("any Tags as t { t == 1 }", "unexpected '{'"),
    ],
)
def test_what_is_none_is_refused_at_its_place(text, sentence):
    with pytest.raises(BadFilter, match=sentence):
        parse_filter(text)


def test_an_expression_is_bounded():
    """In length, in depth, in comparisons: at the limit it is taken, beyond it is not."""
    filled = "a == 1" + " " * (limits.FILTER_CHARS - 6)
    deep = "(" * limits.FILTER_DEPTH + "a == 1" + ")" * limits.FILTER_DEPTH
    many = " or ".join(["a == 1"] * limits.FILTER_MATCHES)
    for text, more in ((filled, filled + " "), (deep, f"({deep})"), (many, f"{many} or a == 1")):
        parse_filter(text)
        with pytest.raises(BadFilter, match="a filter "):
            parse_filter(more)
    with pytest.raises(BadFilter, match="deep"):
        parse_filter("not " * 500 + "a == 1")


WORDS = st.sampled_from(["a", "in", "not", "is", "empty", "and", "or", "==", "!=", "(", ")", ".", "[", "]", '"x"', "`y`", "1", "contains", "matches", "ü", "\\"])


@given(st.text(max_size=60) | st.lists(WORDS, max_size=20).map(" ".join))
def test_any_text_is_a_tree_or_refused(text):
    with contextlib.suppress(BadFilter):
        assert parse_filter(text)


PATHS = st.lists(st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,5}", fullmatch=True), min_size=1, max_size=3).map(tuple)
VALUES = st.text(st.characters(exclude_characters='"', min_codepoint=32, max_codepoint=0x2FF), max_size=6)
MATCHES = st.one_of(
    st.builds(Match, PATHS, st.sampled_from(["==", "!=", "in", "not in", "matches", "not matches"]), VALUES),
    st.builds(Match, PATHS, st.sampled_from(["is empty", "is not empty"])),
)
TREES = st.recursive(
    MATCHES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


def written(tree):
    """A tree as text, with all its parentheses."""
    match tree:
        case Match(path, operator, value):
            where, quoted = ".".join(path), json.dumps(value, ensure_ascii=False)
            return f"{quoted} {operator} {where}" if operator in ("in", "not in") else f"{where} {operator} {quoted if value or 'empty' not in operator else ''}"
        case Not(inner):
            return f"not ({written(inner)})"
        case And(parts):
            return " and ".join(f"({written(part)})" for part in parts)
        case Or(parts):
            return " or ".join(f"({written(part)})" for part in parts)


@given(TREES)
def test_a_tree_that_is_written_is_read_again(tree):
    assert parse_filter(written(tree)) == tree


@pytest.mark.parametrize("text", [r'a == "\ud800"', r'a matches "x\udfffy"', "a == `\ud800`", "a.b\udcff == c", 'a["\ud801"] == c', r'"\ud83d\ude00" in a'])
def test_half_of_a_character_is_refused(text):
    """As by Go. It could be neither matched nor told."""
    with pytest.raises(BadFilter, match="half of a surrogate pair") as refused:
        parse_filter(text)
    assert str(refused.value).encode()
