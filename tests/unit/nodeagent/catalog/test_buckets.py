"""A map that shares what did not change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.catalog.buckets import Buckets, buckets_of

keys = st.sampled_from([f"k{number}" for number in range(600)])
maps = st.dictionaries(keys, st.integers(0, 3))


@given(maps, st.dictionaries(keys, st.none() | st.integers(0, 3)))
def test_a_changed_map_is_what_a_dict_would_be(first: dict[str, int], changes: dict[str, int | None]) -> None:
    """And the one before it is as it was."""
    before = buckets_of(first)
    after = before.changed(changes)
    wanted = {key: value for key, value in {**first, **changes}.items() if value is not None}
    assert (first, wanted) == (before, after)
    assert (len(wanted), set(wanted)) == (len(after), set(after))
    assert (buckets_of(wanted) == after, before == after) == (True, first == wanted)
    assert [wanted.get(key, 9) for key in changes] == [after.get(key, 9) for key in changes]
    assert [key in wanted for key in changes] == [key in after for key in changes]


def test_only_what_changed_is_another_dict() -> None:
    """One part of many."""
    before = buckets_of({f"k{number}": number for number in range(5000)})
    after = before.changed({"k7": 0})
    assert 1 == len(list(before.unlike(after)))
    assert before.changed({}) is before
    assert buckets_of(after) is after


def test_what_is_not_there_is_as_in_a_dict() -> None:
    """Readers need not know which it is."""
    empty: Buckets[int] = Buckets()
    with pytest.raises(KeyError):
        empty["a"]
    assert (None, False) == (empty.get("a"), "a" in empty)
    assert {} == empty


def test_another_form_of_a_value_is_seen_by_all_that_share_it() -> None:
    """A service that is decoded once is so for the snapshots of before and after."""
    before = buckets_of({"a": 1, "b": 2})
    after = before.changed({"b": 3})
    after.put("a", 9)
    assert 9 == after["a"]
