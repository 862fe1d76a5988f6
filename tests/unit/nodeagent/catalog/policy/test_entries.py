"""The way of a document into an entry: every kind, every key, every spelling; garbage is refused in words."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.catalog.policy.entries import KINDS, find_kind, unacted
from nodeagent.errors import PolicyError
from tests.support.entries import FULL, FURTHER, faults, good, unsaid

EVERY = [*FULL.values(), *FURTHER]


def snaked(value):
    """The same in snake_case, as HCL has it; free tables and maps keep their keys."""
    if isinstance(value, list):
        return [snaked(each) for each in value]
    if isinstance(value, dict):
        free = ("Meta", "Config", "LegacyMeta", "Add", "Set", "Subsets", "Failover", "EnvoyExtensions", "JWKSCluster")
        return {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower(): each if key in free else snaked(each) for key, each in value.items()}
    return value


def test_every_kind_has_its_full_entry():
    """Who adds a kind says what it looks like."""
    assert set(KINDS) == set(FULL)


@pytest.mark.parametrize("document", EVERY, ids=lambda each: each["Kind"])
def test_a_sound_entry_comes_back_as_it_was_said(document):
    assert good(document).body == document
    assert good(json.loads(json.dumps(good(document).body))) == good(document)


@pytest.mark.parametrize("document", EVERY, ids=lambda each: each["Kind"])
def test_the_spelling_of_hcl_says_the_same(document):
    assert good(snaked(document)).body == document


@pytest.mark.parametrize("kind", FULL)
def test_the_full_entries_say_nearly_every_key(kind):
    """What one way of saying excludes is in FURTHER or in the tables of the kind's own test."""
    said_later = {each["Kind"] for each in FURTHER} | {"service-intentions"}
    assert kind in said_later or unsaid(good(FULL[kind]).spec) <= {
        "Copies.Match.HTTP.PathExact", "Copies.Match.HTTP.PathRegex", "Injections.Match.HTTP.PathExact", "Injections.Match.HTTP.PathRegex",
        *(f"{each}.Match.HTTP.Header.{way}" for each in ("Copies", "Injections") for way in ("Present", "Prefix", "Suffix", "Contains", "Regex")),
        *(f"{each}.Match.HTTP.QueryParam.{way}" for each in ("Copies", "Injections") for way in ("Exact", "Regex")),
        "UpstreamConfig.Defaults.Name", "UpstreamConfig.Defaults.Peer", "UpstreamConfig.Defaults.Namespace", "UpstreamConfig.Defaults.Partition",
        "TLS.Outgoing.TLSMaxVersion", "TLS.Outgoing.CipherSuites", "PerSource.Burst",
    }  # fmt: skip


def test_all_that_is_wrong_is_said_at_once_each_with_its_path():
    """The issue's own sentence, among others."""
    routes = [
        {"Match": {"HTTP": {"PathPrefx": "/"}}},
        {},
        {"Match": {"HTTP": {"PathExact": "/a", "PathPrefix": "/b"}}, "Destination": {"NumRetries": -1}},
    ]
    assert faults({"Kind": "service-router", "Name": "web", "Routes": routes}) == (
        "service-router web: Routes[0].Match.HTTP.PathPrefx: no such key; did you mean PathPrefix?",
        "service-router web: Routes[2].Destination.NumRetries: Expected a whole number >= 0",
        "service-router web: Routes[2].Match.HTTP: PathExact and PathPrefix are both set",
    )


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (5, "an entry is an object"),
        ([], "an entry is an object"),
        ({}, "Kind: is missing; known: proxy-defaults, mesh"),
        ({"Kind": "service-ruoter"}, "did you mean service-router?"),
        ({"Kind": ["x"]}, "is no kind of entry"),
        ({"Kind": "service-router"}, "service-router: Name: is missing"),
        ({"Kind": "service-router", "Name": "Web"}, "service-router Web: Name: not a name"),
        ({"Kind": "service-router", "Name": "*"}, "Name: not a name"),
        ({"Kind": "mesh", "Name": "other"}, "Name: Invalid enum value 'other'; it is one of mesh"),
        ({"Kind": "service-defaults", "Name": "web", "Namespace": "prod"}, "one namespace and one partition"),
        ({"Kind": "service-defaults", "Name": "web", "name": "web"}, "Name: stands twice, in two spellings"),
    ],
)
def test_what_is_no_entry_is_refused_in_words(document, sentence):
    assert sentence in "\n".join(faults(document))


def test_marks_of_a_reader_are_not_kept_but_the_index_is_remembered():
    entry = good({"Kind": "mesh", "CreateIndex": 1, "ModifyIndex": 7, "Hash": 5})
    assert (entry.index, entry.body) == (7, {"Kind": "mesh", "Name": "mesh"})
    assert good({"Kind": "mesh", "modify_index": True}).index is None


def test_what_is_kept_and_not_acted_on_is_told():
    """Once for all entries of which the same is true."""
    allow = good({"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "a", "Action": "allow"}]})
    assert unacted([allow, good(FULL["mirror"]), good(FULL["fault"]), good(FULL["service-intentions"])]) == [
        "kept, not yet acted on: mirror web, fault web",
        "a JWT cannot be checked yet: sources and permissions that ask for one deny: service-intentions web",
    ]


def test_what_is_said_is_the_same_however_it_is_written():
    """Consul adds precedence, order and empty objects; a subset that says nothing is all instances."""
    ours = {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "*", "Action": "deny"}, {"Name": "a", "Action": "allow"}]}
    marks = {"Type": "consul", "LegacyMeta": {"x": 1}}
    theirs = {
        "Kind": "service-intentions", "Name": "web", "JWT": None,
        "Sources": [{"Name": "a", "Action": "allow", "Precedence": 9, **marks}, {"Name": "*", "Action": "deny", "Precedence": 8, **marks}],
    }  # fmt: skip
    assert good(ours).said == good(theirs).said != good({**ours, "Sources": ours["Sources"][:1]}).said
    bare = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}
    assert good(bare | {"Namespace": "default", "Partition": "default"}).said == bare
    assert good(bare | {"Expose": {}, "MeshGateway": {}, "UpstreamConfig": {"Defaults": {"MeshGateway": {}}}}).said == bare
    subsets = {"Kind": "service-resolver", "Name": "web", "Subsets": {"v1": {}}}
    free = {"Kind": "proxy-defaults", "Name": "global", "Config": {"x": {}}}
    assert (good(subsets).said, good(free).said) == (subsets, free)


def test_a_kind_is_found_by_its_name_alone():
    assert find_kind("mirror").is_own
    with pytest.raises(PolicyError, match="known: proxy-defaults"):
        find_kind("x" * 500)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["5s", "web", "/a", "(", "default"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@st.composite
def damaged(draw):
    """A full entry in which one value, somewhere, is something else."""
    document = json.loads(json.dumps(FULL[draw(st.sampled_from(sorted(FULL)))]))
    at = document
    while True:
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not (isinstance(at[key], (dict, list)) and at[key] and draw(st.booleans())):
            break
        at = at[key]
    at[key] = draw(JSON)
    return document


@settings(deadline=None)
@given(damaged() | JSON)
def test_garbage_is_refused_or_it_comes_back(document):
    """Nothing but the project's own error, and what is taken says the same when it is read again."""
    assert faults(document) or good(json.loads(json.dumps(good(document).body))).body == good(document).body
