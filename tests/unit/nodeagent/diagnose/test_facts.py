"""Facts are values."""

import dataclasses

import pytest

from nodeagent.diagnose.facts import Facts, Memory


def test_nothing_is_known_at_first() -> None:
    """A fact that was not asked for is None: it does not concern this host."""
    assert {getattr(Facts(), field.name) for field in dataclasses.fields(Facts)} == {None}


def test_facts_do_not_change() -> None:
    """What was judged is what was found."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Memory(1, 2).total = 3  # type: ignore[misc]
