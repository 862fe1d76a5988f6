"""The trail of an entry: bounded, and honest about what it did not see."""

import msgspec
import pytest

from nodeagent import limits
from nodeagent.catalog.policy.audit import Actor, Change, Elsewhere, Trail, extended, parse_trail, told

ROOT = Actor(0, "root", "host1", "acc", sudo="alice")


def change(at, before, after, text=""):
    return Change(at, ROOT, "changed", before, after, f"old {text}", f"new {text}")


def trail(*changes):
    made = Trail()
    for each in changes:
        made = extended(made, each)
    return made


def test_changes_are_kept_in_order_and_the_text_of_before_once():
    kept = trail(change(1, "", "a"), change(2, "a", "b"), change(3, "x", "c"))
    assert [each.after for each in kept.changes] == ["a", "b", "c"]
    assert [each.before_text for each in kept.changes] == ["old ", "", "old "]
    assert parse_trail(msgspec.json.encode(kept)) == kept


def test_what_came_from_elsewhere_is_told_between():
    kept = trail(change(1, "", "a"), change(5, "x", "b"))
    assert told(kept, "y") == [
        kept.changes[0], Elsewhere(1, 5, "a", "x"), kept.changes[1], Elsewhere(5, 0, "b", "y"),
    ]  # fmt: skip
    assert told(kept, "b")[-1] == kept.changes[1]


@pytest.mark.parametrize(
    ("kept", "now", "rows"),
    [
        (Trail(), "", []),
        (Trail(), "a", [Elsewhere(0, 0, "", "a")]),
        (trail(change(1, "z", "a")), "a", [Elsewhere(0, 1, "", "z"), "the change"]),
    ],
)
def test_what_was_there_before_the_trail_came_from_elsewhere(kept, now, rows):
    assert [each if isinstance(each, Elsewhere) else "the change" for each in told(kept, now)] == rows


def test_a_trail_has_so_many_changes_and_says_how_many_went():
    """Of what was before the oldest that is left, nothing is claimed."""
    kept = trail(*(change(n, f"{n}", f"{n + 1}") for n in range(limits.POLICY_CHANGES + 5)))
    assert (len(kept.changes), kept.dropped) == (limits.POLICY_CHANGES, 5)
    assert isinstance(told(kept, kept.changes[-1].after)[0], Change)


def test_a_trail_has_so_many_bytes():
    kept = trail(*(change(n, f"{n}", f"{n + 1}", "x" * 60_000) for n in range(10)))
    assert len(msgspec.json.encode(kept)) <= limits.POLICY_TRAIL_BYTES + 100
    assert 1 < len(kept.changes) < 10
    large = trail(change(1, "", "a", "x" * limits.POLICY_TRAIL_BYTES))
    assert [(each.after, each.after_text) for each in large.changes] == [("a", "")]


def test_what_others_wrote_there_is_no_trail():
    dated = msgspec.json.encode(Trail((change(1e300, "", "a"),)))
    assert parse_trail(dated) == parse_trail(b"{") == parse_trail(b"\xff") == parse_trail(b'{"changes": 5}') is None
    assert parse_trail(b"") == Trail()


def test_who_it_was_is_shown():
    assert str(ROOT) == "alice as root (0) on host1"
    assert str(Actor(5, "bob", "h")) == "bob (5) on h"
