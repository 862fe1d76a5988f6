"""/v1/connect/intentions: pairs over config entries."""

import pytest

from nodeagent.embedded import config_api, intentions_api
from nodeagent.embedded.refusal import BadRequest, Forbidden, Missing
from tests.unit.nodeagent.embedded.desk import HOST1


def pair(source, destination):
    return {"source": source, "destination": destination}


def put(desk, source, destination, action="allow", **more):
    return desk.call(intentions_api.put, body={"Action": action} | more, query=pair(source, destination))


def is_allowed(desk, source, destination):
    return desk.call(intentions_api.check, HOST1, query=pair(source, destination))["Allowed"]


def test_a_pair_is_denied_until_it_is_allowed(desk):
    assert is_allowed(desk, "shop", "web") is False
    assert put(desk, "shop", "web", Description="buys") is True
    assert is_allowed(desk, "shop", "web") is True
    assert is_allowed(desk, "web", "shop") is False


def test_a_pair_is_read_with_its_precedence(desk):
    put(desk, "shop", "web", Description="buys")
    shown = desk.call(intentions_api.one, HOST1, query=pair("shop", "web"))
    assert (shown["SourceName"], shown["Action"], shown["Precedence"], shown["Description"]) == (
        "shop",
        "allow",
        9,
        "buys",
    )
    assert desk.call(intentions_api.one, query=pair("*", "web")) == 404


def test_what_was_read_can_be_written_back(desk):
    put(desk, "shop", "web")
    shown = desk.call(intentions_api.one, query=pair("shop", "web"))
    assert desk.call(intentions_api.put, body=shown | {"Action": "deny"}, query=pair("shop", "web")) is True
    assert is_allowed(desk, "shop", "web") is False


def test_pairs_live_in_the_destinations_config_entry(desk):
    put(desk, "*", "web", "deny")
    put(desk, "shop", "web")
    entry = desk.call(config_api.one, kind="service-intentions", name="web")
    assert [(s["Name"], s["Action"]) for s in entry["Sources"]] == [("shop", "allow"), ("*", "deny")]
    desk.call(intentions_api.delete, query=pair("shop", "web"))
    assert is_allowed(desk, "shop", "web") is False
    desk.call(intentions_api.delete, query=pair("*", "web"))
    assert desk.call(config_api.one, kind="service-intentions", name="web") == 404
    assert desk.call(intentions_api.delete, query=pair("*", "web")) == {}


def test_lists_are_in_the_order_of_evaluation(desk):
    for source, destination in (("*", "*"), ("shop", "*"), ("*", "web"), ("shop", "web"), ("shop", "db")):
        put(desk, source, destination)
    shown = [(i["SourceName"], i["DestinationName"]) for i in desk.call(intentions_api.every, HOST1)]
    assert shown == [("shop", "db"), ("shop", "web"), ("*", "web"), ("shop", "*"), ("*", "*")]
    match = desk.call(intentions_api.match, HOST1, query={"by": "destination", "name": "web"})["web"]
    assert [i["Precedence"] for i in match] == [9, 8, 6, 5]
    match = desk.call(intentions_api.match, HOST1, query={"by": "source", "name": "other"})["other"]
    assert [(i["SourceName"], i["DestinationName"]) for i in match] == [("*", "web"), ("*", "*")]


def test_a_match_has_an_index_of_its_destination(desk):
    put(desk, "shop", "web")
    query = {"by": "destination", "name": "web"}
    before = desk.index(intentions_api.match, query=query)
    put(desk, "shop", "db")
    assert desk.index(intentions_api.match, query=query) == before
    put(desk, "shop", "*")
    assert desk.index(intentions_api.match, query=query) > before


def test_a_host_writes_none(desk):
    for handler in (intentions_api.put, intentions_api.delete):
        with pytest.raises(Forbidden, match="may not change intentions"):
            desk.call(handler, HOST1, {"Action": "allow"}, query=pair("shop", "web"))


@pytest.mark.parametrize(
    ("handler", "body", "query", "refusal"),
    [
        (intentions_api.check, b"", pair("", "web"), BadRequest),
        (intentions_api.check, b"", {"source": "a"}, BadRequest),
        (intentions_api.match, b"", {"by": "x", "name": "web"}, BadRequest),
        (intentions_api.match, b"", {"by": "source"}, BadRequest),
        (intentions_api.put, {}, pair("a", "b"), BadRequest),
        (intentions_api.put, {"Action": "perhaps"}, pair("a", "b"), BadRequest),
        (intentions_api.put, {"Action": "allow", "Peer": "p"}, pair("a", "b"), Missing),
    ],
)
def test_nonsense_is_refused(desk, handler, body, query, refusal):
    with pytest.raises(refusal):
        desk.call(handler, body=body, query=query)


@pytest.mark.parametrize(("key", "value"), [("Meta", {"a": "b"}), ("SourceNS", "other"), ("DestinationNS", "other"), ("SourceType", "external"), ("DefaultPort", 5)])
def test_what_an_intention_cannot_say_is_refused(desk, key, value):
    """It was left out without a word; what was read can be written back."""
    pair = {"source": "shop", "destination": "web"}
    with pytest.raises(Missing, match=f"{key} of an intention is not implemented"):
        desk.call(intentions_api.put, body={"Action": "allow", key: value}, query=pair)
    assert desk.call(intentions_api.put, body={"Action": "allow"}, query=pair) is True
    assert desk.call(intentions_api.put, body=desk.call(intentions_api.one, query=pair) | {"Meta": {}}, query=pair) is True


@pytest.mark.parametrize("handler", [intentions_api.check, intentions_api.one, intentions_api.put, intentions_api.delete])
def test_there_is_one_type_of_sources(desk, handler):
    with pytest.raises(BadRequest, match="source-type=x: only consul exists"):
        desk.call(handler, body={"Action": "allow"}, query={"source": "shop", "destination": "web", "source-type": "x"})
