"""The KV table: compare-and-set, prefixes, and the indexes of what is gone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent import limits
from nodeagent.embedded.database import commit, newest_index, open_database
from nodeagent.embedded.refusal import BadRequest, TooLarge
from nodeagent.embedded.values import (
    check_key,
    delete_value,
    delete_values,
    prefix_index,
    prefix_topic,
    put_value,
    read_keys,
    read_value,
    read_values,
    value_index,
    value_topic,
)  # fmt: skip


@pytest.fixture
def connection(tmp_path):
    made = open_database(tmp_path / "catalog.db", create=True)
    commit(made, lambda change: change.connection.execute("INSERT INTO state VALUES (1, 'td', 'dc1', 1)"))
    yield made
    made.close()


def put(connection, key, value=b"v", cas=None, flags=0):
    return commit(connection, lambda change: put_value(change, key, value, flags, cas))[0]


def test_what_was_put_is_read(connection):
    assert put(connection, "a/b", b"\x00\xff", flags=7)
    assert read_value(connection, "a/b")[:3] == ("a/b", b"\x00\xff", 7)
    assert read_value(connection, "a") is None


def test_prefixes_are_of_text_not_of_patterns(connection):
    for key in ("a", "a%b", "a%c", "aXb", "a_b", "b", "aé/x", "a\U0001f600"):
        put(connection, key)
    assert [value.key for value in read_values(connection, "a%")] == ["a%b", "a%c"]
    assert len(read_values(connection, "a")) == 7
    assert len(read_values(connection, "")) == 8


def test_keys_stop_at_a_separator(connection):
    for key in ("c/a/1", "c/a/2", "c/b", "d"):
        put(connection, key)
    assert read_keys(connection, "c/", "/") == ["c/a/", "c/b"]
    assert read_keys(connection, "c/") == ["c/a/1", "c/a/2", "c/b"]


def test_compare_and_set(connection):
    assert put(connection, "a", cas=3) is False
    assert put(connection, "a", cas=0) is True
    assert put(connection, "a", b"w", cas=0) is False
    assert put(connection, "a", b"w", cas=newest_index(connection)) is True
    remove = lambda cas: commit(connection, lambda change: delete_value(change, "a", cas))[0]  # noqa: E731
    assert remove(1) is False
    assert remove(newest_index(connection)) is True
    assert remove(None) is True


def test_the_same_again_changes_nothing(connection):
    put(connection, "a")
    before = newest_index(connection)
    put(connection, "a")
    assert newest_index(connection) == before


def test_an_index_is_of_its_own_key_or_prefix(connection):
    put(connection, "a/1")
    seen = value_index(connection, "a/1"), prefix_index(connection, "a/")
    put(connection, "b/1")
    assert (value_index(connection, "a/1"), prefix_index(connection, "a/")) == seen
    put(connection, "a/2")
    assert (value_index(connection, "a/1"), prefix_index(connection, "a/")) == (seen[0], newest_index(connection))
    assert (value_index(connection, "nothing"), prefix_index(connection, "nothing")) == (1, 1)


def test_a_removal_moves_the_index_forward(connection):
    put(connection, "a/1")
    put(connection, "a/2")
    before = prefix_index(connection, "a/")
    commit(connection, lambda change: delete_values(change, "a/"))
    assert value_index(connection, "a/1") > before
    assert prefix_index(connection, "a/") > before
    assert read_values(connection, "") == []


def test_watches_are_told_keys(connection):
    assert commit(connection, lambda change: put_value(change, "a", b"", 0))[1] == {value_topic("a")}
    assert value_topic("a") in commit(connection, lambda change: delete_value(change, "a"))[1]
    assert prefix_topic("a") == "kv-prefix:a"


def test_limits(connection, monkeypatch):
    with pytest.raises(TooLarge, match="larger than"):
        put(connection, "a", b"x" * (limits.ENTRY_BYTES + 1))
    monkeypatch.setattr(limits, "CATALOG_ROWS", 1)
    put(connection, "a")
    put(connection, "a", b"other")
    with pytest.raises(TooLarge, match="limit"):
        put(connection, "b")


@pytest.mark.parametrize("key", ["", "a\0b", "a\nb", "\U0010ffff", "k" * (limits.KV_KEY_BYTES + 1), "\ud800"])
def test_a_key_that_cannot_be_is_refused(key):
    with pytest.raises(BadRequest, match="a key has"):
        check_key(key)


@given(st.text(max_size=20))
def test_any_key_is_itself_or_refused(key):
    try:
        assert check_key(key) == key
    except BadRequest:
        assert not key or not key.isprintable()
