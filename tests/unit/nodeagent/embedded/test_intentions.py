"""Intentions: exactly one row decides a pair; nothing decides for itself; edits touch one pair."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.embedded.entries import normal_entry, normal_source
from nodeagent.embedded.intentions import (
    end_name,
    in_order,
    intention_json,
    is_allowed,
    match_rows,
    rows_of,
    with_source,
    without_source,
)  # fmt: skip
from nodeagent.embedded.refusal import BadRequest

NAMES = ("web", "shop", "db")


def rows(*texts):
    """Rows from lines such as `shop -> web allow`."""
    entries = {}
    for text in texts:
        source, _, destination, action = text.split()
        entries.setdefault(destination, []).append({"Name": source, "Action": action})
    return [
        row
        for destination, sources in entries.items()
        for row in rows_of(normal_entry({"Kind": "service-intentions", "Name": destination, "Sources": sources}), 1, 2)
    ]


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        ((), False),
        (("shop -> web allow",), True),
        (("shop -> web deny",), False),
        (("shop -> db allow",), False),
        (("web -> shop allow",), False),
        (("* -> web allow",), True),
        (("* -> web allow", "shop -> web deny"), False),
        (("* -> web deny", "shop -> web allow"), True),
        (("shop -> * allow", "* -> web deny"), False),
        (("shop -> * deny", "* -> web allow"), True),
        (("* -> * allow",), True),
        (("* -> * allow", "shop -> * deny"), False),
        (("* -> * deny", "shop -> * allow"), True),
    ],
)
def test_the_most_specific_row_decides(said, allowed):
    assert is_allowed(rows(*said), "shop", "web") is allowed


def test_permissions_and_jwts_allow_no_connection():
    """They speak of requests; for a connection they are a deny, and hide what is less specific."""
    for entry in (
        {"Sources": [{"Name": "shop", "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/"}}]}]},
        {"Sources": [{"Name": "shop", "Action": "allow"}], "JWT": {"Providers": [{"Name": "okta"}]}},
    ):
        made = rows_of(normal_entry({"Kind": "service-intentions", "Name": "web"} | entry), 1, 1)
        assert not is_allowed([*made, *rows("* -> web allow", "* -> * allow")], "shop", "web")


def slow_verdict(table, source, destination):
    """Consul's rule said once more, by looking the four patterns up in order."""
    for pattern in ((source, destination), ("*", destination), (source, "*"), ("*", "*")):
        if pattern in table:
            return table[pattern] == "allow"
    return False


PAIRS = st.tuples(st.sampled_from((*NAMES, "*")), st.sampled_from((*NAMES, "*")))


@given(st.dictionaries(PAIRS, st.sampled_from(("allow", "deny"))))
def test_verdicts_agree_with_an_evaluator_written_separately(table):
    made = rows(*(f"{source} -> {destination} {action}" for (source, destination), action in table.items()))
    for source, destination in itertools.product((*NAMES, "stranger"), repeat=2):
        assert is_allowed(made, source, destination) == slow_verdict(table, source, destination)


def test_match_gives_the_rows_of_one_end_in_order():
    made = rows("* -> * deny", "shop -> web allow", "* -> web deny", "shop -> db allow")
    assert [(r.source, r.destination) for r in match_rows(made, "destination", "web")] == [
        ("shop", "web"), ("*", "web"), ("*", "*"),
    ]  # fmt: skip
    assert [(r.source, r.destination) for r in match_rows(made, "source", "shop")] == [
        ("shop", "db"), ("shop", "web"), ("*", "web"), ("*", "*"),
    ]  # fmt: skip
    assert len(in_order(made)) == 4


def with_kept(entry, source):
    return with_source(entry, "web", normal_source(source, "web"))


def test_an_edit_touches_one_pair():
    entry = with_kept(None, {"Name": "*", "Action": "deny"})
    entry = with_kept(entry, {"Name": "shop", "Action": "allow", "Description": "buys"})
    entry = with_kept(entry | {"Meta": {"k": "v"}}, {"Name": "shop", "Action": "deny"})
    assert [(s["Name"], s["Action"], s.get("Description")) for s in entry["Sources"]] == [
        ("shop", "deny", None), ("*", "deny", None),
    ]  # fmt: skip
    assert entry["Meta"] == {"k": "v"}
    assert normal_entry(entry) == entry


def test_the_last_source_takes_the_entry_with_it():
    entry = with_kept(with_kept(None, {"Name": "a", "Action": "allow"}), {"Name": "b", "Action": "deny"})
    left = without_source(entry, "a")
    assert [source["Name"] for source in left["Sources"]] == ["b"]
    assert without_source(left, "b") is None


@pytest.mark.parametrize(("text", "name"), [("web", "web"), ("default/web", "web"), ("default/default/*", "*")])
def test_an_end_is_a_name(text, name):
    assert end_name(text, "source") == name


@pytest.mark.parametrize("text", ["", "team/web", "a/b/c/d", "default/", "we b", "w*"])
def test_another_end_is_refused(text):
    with pytest.raises(BadRequest, match=r"\?source="):
        end_name(text, "source")


def test_a_row_is_shown_as_consul_does():
    assert intention_json(rows("shop -> web allow")[0]) == {
        "SourceNS": "default", "SourceName": "shop", "DestinationNS": "default", "DestinationName": "web",
        "SourceType": "consul", "Precedence": 9, "Action": "allow", "CreateIndex": 1, "ModifyIndex": 2,
    }  # fmt: skip
