"""Text into documents: YAML and JSON alike, nothing that readers differ about."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent import limits
from nodeagent.catalog.policy import documents
from nodeagent.catalog.policy.documents import Document, parse_documents
from nodeagent.errors import PolicyError


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        (b"", []),
        (b"# nothing\n---\n", []),
        (b"a: 1\n---\n# x\nb: [x, '1']\n", [(1, {"a": 1}), (4, {"b": ["x", "1"]})]),
        (b"- a: 1\n- b: 2\n", [(1, {"a": 1}), (1, {"b": 2})]),
        (b'{"a": 1}\n\n{"b": 2}', [(1, {"a": 1}), (3, {"b": 2})]),
        (b'{"a": 1}\n---\n{"b": 2}\n---\n', [(1, {"a": 1}), (3, {"b": 2})]),
        (b'[{"a": 1}, {"b": null}]', [(1, {"a": 1}), (1, {"b": None})]),
        (b"\xef\xbb\xbfa: 1", [(1, {"a": 1})]),
        (b"a: |\n  x\n  y\nb: >-\n  c\n  d\n", [(1, {"a": "x\ny\n", "b": "c d"})]),
    ],
)
def test_documents_and_where_they_begin(text, documents):
    assert parse_documents(text) == [Document(*each) for each in documents]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("yes", "yes"), ("on", "on"), ("no", "no"), ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("5", 5), ("-5", -5), ("007", "007"), ("0x10", "0x10"), ("1_000", "1_000"), ("1.5", 1.5), ("1e3", 1000.0), ("1e999", "1e999"),
        (".inf", ".inf"), (".nan", ".nan"), ("2024-01-01", "2024-01-01"), ("12:30", "12:30"), ("'5'", "5"), ('"true"', "true"),
        ("9" * 41, 10**41 - 1), ("9" * 42, "9" * 42), ("=", "="),
    ],
)  # fmt: skip
def test_plain_words_are_jsons(word, value):
    """YAML 1.1 makes `on` true and a date a date."""
    assert parse_documents(f"a: {word}\n".encode()) == [Document(1, {"a": value})]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands twice"),
        (b"a: &x 1\nb: *x\n", "line 1: anchors and aliases are not taken"),
        (b"a: 1\nb: *x\n", "line 2: anchors and aliases are not taken"),
        (b"a: !!python/object/apply:os.system [x]\n", "line 1: the tag tag:yaml.org,2002:python/object/apply:os.system is not taken"),
        (b"<<: {a: 1}\n", "line 1: merging"),
        (b"? [a]\n: 1\n", "line 1: a key is a text"),
        (b"a: b: c\n", "line 1: not YAML"),
        (b"a: [\n", "not YAML"),
        (b"a: \x00\n", "not YAML"),
        (b"\xff", "is not UTF-8"),
        (b'{"a": 1,}', "line 1: not JSON"),
        (b'{"a": 1}\n{"b": NaN}', "line 2: not JSON: NaN is not a JSON value"),
        (b'{"a": 1e999}', "is too large a number"),
        (b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b"- " * 1000, f"nested deeper than {limits.POLICY_DEPTH}"),
    ],
)
def test_what_is_not_taken_is_refused_with_its_line(text, sentence):
    with pytest.raises(PolicyError) as refused:
        parse_documents(text)
    assert sentence in str(refused.value)


def test_a_large_file_and_many_documents_are_refused(monkeypatch):
    monkeypatch.setattr(limits, "POLICY_DOCUMENTS", 3)
    for text in (b"a: 1\n---\n" * 4, b'{"a": 1}\n' * 4, b"- a\n" * 4):
        with pytest.raises(PolicyError, match="documents"):
            parse_documents(text)
    monkeypatch.setattr(limits, "POLICY_FILE_BYTES", 5)
    with pytest.raises(PolicyError, match="has 6 bytes, and may have 5"):
        parse_documents(b"a: 123")


@given(st.dictionaries(st.text(max_size=5), st.integers(-5, 5) | st.text(max_size=5) | st.none() | st.booleans(), max_size=4))
def test_json_says_what_it_says(value):
    assert parse_documents(json.dumps(value).encode()) == [Document(1, value)]


class Counted(str):
    """A text that counts how many of its characters were gone through for lines, and how often it was compared."""

    __slots__ = ()
    seen = 0

    def count(self, *args):
        _, start, end = args
        Counted.seen += end - start
        return super().count(*args)

    def __eq__(self, other):
        Counted.seen += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_a_text_of_many_documents_is_gone_through_once_for_its_lines():
    """16 MiB of them took minutes."""
    text, Counted.seen = Counted('{"a": 1}\n' * 1000), 0
    assert [each.line for each in documents._json_documents(text)] == list(range(1, 1001))
    assert Counted.seen <= len(text)


def test_a_key_that_stands_twice_is_found_in_one_look():
    pairs, Counted.seen = [(Counted(f"k{number}"), 1) for number in range(1000)], 0
    with pytest.raises(ValueError, match="the key 'k0' stands twice"):
        documents._no_duplicates([*pairs, (Counted("k0"), 2)])
    assert Counted.seen < len(pairs)
