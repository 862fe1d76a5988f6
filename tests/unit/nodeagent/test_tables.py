"""What does not fit a table, with its key; the whole configuration is in test_config."""

from typing import Annotated, Literal

import msgspec
import pytest

from nodeagent.model.names import NAME_PATTERN, NAME_RULE
from nodeagent.tables import faults_of, fitting, suggest

Name = Annotated[str, msgspec.Meta(pattern=rf"^{NAME_PATTERN}\Z")]


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    count: Annotated[int, msgspec.Meta(ge=0)]
    word: Literal["one", "two"] | tuple[str, ...] = "one"


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: Inner
    rows: tuple[Inner, ...] = ()
    named: dict[Name, Inner] = {}


STAND_INS = {Outer: {"inner": {"count": 9}}, Inner: {"count": 8}}
GOOD = {"inner": {"count": 1, "word": ["x"]}, "rows": [{"count": 0}], "named": {"web": {"count": 2, "word": "two"}}}


def test_what_fits_has_no_fault_and_is_converted() -> None:
    assert list(faults_of(GOOD, Outer)) == []
    assert msgspec.convert(GOOD, Outer).named["web"].count == 2
    assert fitting(GOOD, Outer, STAND_INS) == GOOD


@pytest.mark.parametrize(("table", "faults"), [
    ({}, ["inner: is missing, and has no default: give it"]),
    ({"inner": {}}, ["inner.count: is missing, and has no default: give it under [inner]"]),
    ({"inner": 5}, ["inner: Expected a table, got a whole number"]),
    ({"inner": GOOD["inner"], "inne": 1}, ["inne: no such setting; did you mean inner?"]),
    ({"inner": GOOD["inner"], "q": 1}, ["q: no such setting; known here: inner, rows, named"]),
    ({"inner": {"count": -1, "word": "three"}}, [
        "inner.count: Expected a whole number >= 0", "inner.word: Invalid enum value 'three'; it is one of one, two, or a list",
    ]),
    ({"inner": {"count": 1, "word": ["x", 5]}}, ["inner.word[1]: Expected a text in quotes, got a whole number"]),
    ({"inner": GOOD["inner"], "rows": {}}, ["rows: Expected a list, got a table"]),
    ({"inner": GOOD["inner"], "rows": [{"count": 1}, {"count": "1"}, 7]}, [
        "rows[1].count: Expected a whole number, got a text in quotes", "rows[2]: Expected a table, got a whole number",
    ]),
    ({"inner": GOOD["inner"], "named": {"Web": {"count": -1}, "db": {}}}, [
        f"named.'Web': not a name: use {NAME_RULE}", "named.Web.count: Expected a whole number >= 0",
        "named.db.count: is missing, and has no default: give it under [named.db]",
    ]),
])  # fmt: skip
def test_each_fault_is_told_once_with_its_very_key(table: dict[str, object], faults: list[str]) -> None:
    """And only where msgspec would refuse the table, too; it takes what is left of it."""
    assert list(faults_of(table, Outer)) == faults
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, Outer)
    msgspec.convert(fitting(table, Outer, STAND_INS), Outer)


def test_what_is_right_beside_a_fault_is_kept_in_its_place() -> None:
    """Rows as well as values; the stand-ins are for what they cannot do without."""
    faulty = {"inner": {"word": ["x"], "q": 1}, "rows": [{"word": 1}, 7, {"count": 3}], "named": {"Web": {"count": 1}, "db": {"count": "1", "word": "two"}}}
    assert fitting(faulty, Outer, STAND_INS) == {
        "inner": {"count": 8, "word": ["x"]}, "rows": [{"count": 8}, {"count": 8}, {"count": 3}], "named": {"db": {"count": 8, "word": "two"}},
    }  # fmt: skip
    assert fitting({"inner": 5, "rows": {}}, Outer, STAND_INS) == {"inner": {"count": 8}}


def test_a_suggestion_is_made_whatever_the_case() -> None:
    """Keys of bodies have capitals."""
    assert suggest("adress", ["Address", "Port"]) == "; did you mean Address?"
    assert suggest("qqq", ["Address", "Port"]) == ""
