"""Filters over rows: each operator on each kind of field, what is not there, and an oracle."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent import limits
from nodeagent.catalog.bexpr import BadFilter
from nodeagent.catalog.bexpr_rows import OPERATORS, Rows, Table, question, selectors

FIELDS = {
    "Name": "text", "Port": "number", "Up": "truth", "Tags": "texts", "Meta": Table("text"),
    "At": Table({"Ip": "text"}), "Checks": Rows({"Status": "text", "Tags": "texts"}), "Host": {"Name": "text"},
}  # fmt: skip
ROW = {
    "Name": "web-1", "Port": 80, "Up": True, "Tags": ["a", "b"], "Meta": {"zone": "x", "k.v": "y"},
    "At": {"lan": {"Ip": "10.0.0.1"}}, "Checks": [{"Status": "passing", "Tags": []}, {"Status": "critical", "Tags": ["t"]}],
    "Host": {"Name": "host1"},
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "Name == `web-1`", "Name != web", "web in Name", "Name contains `-`", "x not in Name", "Name matches `^w.*1$`", "Name matches `eb`",
        "Name not matches `^eb`", "Port == 80", "Port != 81", "Up == true", "Up == T", "Up != 0", "a in Tags", "Tags contains b",
        "c not in Tags", "Tags is not empty", "Meta.zone == x", 'Meta["k.v"] == y', "zone in Meta", "zones not in Meta", "Meta is not empty",
        "At.lan.Ip == `10.0.0.1`", "Host.Name == host1", "Checks is not empty", "Checks.Status == critical", "Checks.Status == passing",
        "t in Checks.Tags", "Checks.Tags is empty",
    ],
)  # fmt: skip
def test_what_a_row_is(text):
    assert question(text, FIELDS)(ROW) is True
    assert question(f"not ({text})", FIELDS)(ROW) is False


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        ("Meta.nothing == x", False), ("Meta.nothing != x", True), ("x in Meta.nothing", False), ("x not in Meta.nothing", True),
        ("Meta.nothing matches `.*`", False), ("Meta.nothing not matches `.*`", True), ("At.wan.Ip == x", False), ("At.wan.Ip != x", True),
    ],
)  # fmt: skip
def test_a_key_that_is_not_there_is_no_value_as_with_consul(text, is_so):
    assert question(text, FIELDS)(ROW) is is_so


def test_a_list_asks_for_one_of_its_rows():
    """As Consul's: so both a comparison and its opposite may hold."""
    assert question("Checks.Status == critical and Checks.Status != critical", FIELDS)(ROW) is True
    assert question("Checks.Status != critical", FIELDS)(ROW | {"Checks": []}) is False


def test_what_a_row_leaves_out_is_empty():
    empty = {}
    for text in ("Name == ``", "Port == 0", "Up == false", "Tags is empty", "Meta is empty", "Checks is empty", "x not in Tags", "`` in Name", "`` not in Tags"):
        assert question(text, FIELDS | {"Meta": Table("text")})(empty | {"Host": {}}) is True, text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Nam == x", "Nam: no such field; here is Name, Port, "),
        ("Host.Nam == x", "Host.Nam: no such field; here is Name"),
        ("Name.x == y", "Name.x: no such field: there is nothing below a text"),
        ("Host == x", "Host: cannot be asked ==; it can be asked nothing"),
        ("Meta == x", "Meta: cannot be asked ==; it can be asked in, not in, is empty, is not empty"),
        ("Tags == x", "Tags: cannot be asked =="),
        ("Tags matches x", "Tags: cannot be asked matches"),
        ("Name is empty", "Name: cannot be asked is empty"),
        ("80 in Port", "Port: cannot be asked in"),
        ("x in Checks", "Checks: cannot be asked in"),
        ("Port == 1.5", "Port: '1.5' is not a whole number"),
        ("Up == yes", "Up: 'yes' is neither true nor false"),
        ("Name matches `(`", "not a pattern of RE2: missing"),
        (r"Name matches `(a)\1`", "not a pattern of RE2"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_any_row(text, sentence):
    with pytest.raises(BadFilter, match=re.escape(sentence)):
        question(text, FIELDS)


def test_a_pattern_is_bounded_in_what_it_takes(monkeypatch):
    """Matching is linear in any case; this is what building one may cost."""
    question("Name matches `a{500}`", FIELDS)
    monkeypatch.setattr(limits, "FILTER_PATTERN_BYTES", 4096)
    with pytest.raises(BadFilter, match="RE2"):
        question("Name matches `a{500}`", FIELDS)


@pytest.mark.parametrize("text", [" or ".join(["Name matches a"] * (limits.FILTER_PATTERNS + 1)), "Name matches `a{500}` or Name matches `b{500}`"])
def test_a_filter_has_a_bounded_number_of_patterns_and_of_their_steps(text):
    assert limits.FILTER_PROGRAM == 1000
    with pytest.raises(BadFilter, match=f"at most {limits.FILTER_PATTERNS} patterns, of {limits.FILTER_PROGRAM} steps together"):
        question(text, FIELDS)
    assert question(text.rpartition(" or ")[0], FIELDS)


def test_what_patterns_may_take_is_bounded_for_each_list(monkeypatch):
    """By what they would at worst: so it is the same on any machine."""
    asks = question("Name matches `^a{100}$`", FIELDS)
    row = ROW | {"Name": "a" * 100}
    assert len(asks.chosen([row] * 100)) == 100
    monkeypatch.setattr(limits, "FILTER_STEPS", 2 * asks._meter.steps)
    assert len(asks.chosen([row] * 200)) == len(asks.chosen([row] * 200)) == 200
    with pytest.raises(BadFilter, match="take too long with so many rows"):
        asks.chosen([row] * 201)


def test_a_pattern_takes_no_longer_than_its_text():
    assert question("Name matches `(a+)+$`", FIELDS)(ROW | {"Name": "a" * 10_000 + "!"}) is False


def test_what_can_be_named_is_a_list():
    found = selectors(FIELDS)
    assert found["Meta"] == "table"
    assert found["Meta.<any>"] == "text"
    assert found["At.<any>.Ip"] == "text"
    assert (found["Checks"], found["Checks.Status"], found["Host.Name"]) == ("rows", "text", "text")
    assert "Host" not in found
    assert set(found.values()) <= set(OPERATORS)


LETTERS = st.text("ab", max_size=3)
PLAIN = {"Name": "text", "Port": "number", "Tags": "texts", "Meta": Table("text")}
ROWS = st.fixed_dictionaries(
    {"Name": LETTERS, "Port": st.integers(0, 2), "Tags": st.lists(LETTERS, max_size=2), "Meta": st.dictionaries(st.just("k"), LETTERS)}
)
NOTHING = object()
ATOMS = st.one_of(
    st.builds(lambda v: (f'Name == "{v}"', lambda row: row["Name"] == v), LETTERS),
    st.builds(lambda v: (f'Name != "{v}"', lambda row: row["Name"] != v), LETTERS),
    st.builds(lambda v: (f'"{v}" in Name', lambda row: v in row["Name"]), LETTERS),
    st.builds(lambda v: (f'Name matches "^{v}"', lambda row: row["Name"].startswith(v)), LETTERS),
    st.builds(lambda v: (f"Port == {v}", lambda row: row["Port"] == v), st.integers(0, 2)),
    st.builds(lambda v: (f'Tags contains "{v}"', lambda row: v in row["Tags"]), LETTERS),
    st.builds(lambda v: (f'"{v}" not in Tags', lambda row: v not in row["Tags"]), LETTERS),
    st.builds(lambda v: (f'Meta.k == "{v}"', lambda row: row["Meta"].get("k", NOTHING) == v), LETTERS),
    st.builds(lambda v: (f'Meta.k != "{v}"', lambda row: row["Meta"].get("k", NOTHING) != v), LETTERS),
    st.just(("Tags is empty", lambda row: not row["Tags"])),
    st.just(("Meta is not empty", lambda row: bool(row["Meta"]))),
)
PAIRS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        inner.map(lambda one: (f"not ({one[0]})", lambda row: not one[1](row))),
        st.tuples(inner, inner).map(lambda two: (f"({two[0][0]}) and ({two[1][0]})", lambda row: two[0][1](row) and two[1][1](row))),
        st.tuples(inner, inner).map(lambda two: (f"({two[0][0]}) or ({two[1][0]})", lambda row: two[0][1](row) or two[1][1](row))),
    ),
    max_leaves=6,
)


@given(PAIRS, st.lists(ROWS, max_size=8))
def test_a_filter_chooses_what_plain_python_would(pair, rows):
    text, oracle = pair
    asks = question(text, PLAIN)
    assert [row for row in rows if asks(row)] == [row for row in rows if oracle(row)]
