"""YAML that is written is read as the same, and differences are by line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.catalog.policy.documents import Document, means_more, parse_documents
from nodeagent.catalog.policy.texts import difference, hash_of, text_of, texts_of
from tests.support.entries import FULL

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(["yes", "1e3", "5", "~", "null", "0x1", "a: b", "- a", "#", "=", "<<"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize("kind", FULL)
def test_an_entry_that_is_written_is_read_as_the_same(kind):
    assert [each.value for each in parse_documents(text_of(FULL[kind]).encode())] == [FULL[kind]]


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_whatever_is_written_is_read_as_the_same(value):
    """Also words that other readers take for numbers and truths."""
    assert parse_documents(text_of(value).encode()) == [Document(1, value)]


def test_several_are_one_stream_and_what_stands_twice_is_written_twice():
    shared = {"a": [1]}
    text = texts_of([{"x": shared, "y": shared}, {"z": 1}])
    assert text == "x:\n  a:\n    - 1\ny:\n  a:\n    - 1\n---\nz: 1\n"
    assert [each.line for each in parse_documents(text.encode())] == [1, 8]


def test_words_that_mean_more_are_quoted():
    assert text_of({"a": "5", "b": "x\ny\n"}) == "a: '5'\nb: |\n  x\n  y\n"
    assert [means_more(word) for word in ("5", "true", "", "yes", "a")] == [True, True, True, False, False]


def test_a_hash_names_what_is_said():
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1}) != hash_of({"a": 1, "b": 3})
    assert hash_of(None) == ""


def test_what_differs_is_shown_by_line():
    assert difference({"a": 1}, {"a": 1}, "x") == []
    assert difference({"a": 1}, {"a": 2}, "mesh mesh") == [
        "--- mesh mesh (catalog)", "+++ mesh mesh (new)", "@@ -1 +1 @@", "-a: 1", "+a: 2",
    ]  # fmt: skip
    assert difference(None, {"a": 1}, "x")[0] == "--- /dev/null"
    assert difference({"a": 1}, None, "x")[1] == "+++ /dev/null"
