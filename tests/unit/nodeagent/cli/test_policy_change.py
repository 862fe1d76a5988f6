"""Changes: planned, checked as a whole, written in order, told when they fail in part."""

import pytest

from nodeagent.catalog.policy.entries import Key, read_entry
from nodeagent.cli.policy_change import carry_out, check_plan, find_actor, plan_changes, plan_removal, record_bodies
from nodeagent.cli.policy_store import PolicyStore
from nodeagent.errors import CatalogError, CatalogTimeout, CatalogUnreachable, PolicyError
from tests.support.shelf import Shelf

HTTP = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}
API = {"Kind": "service-defaults", "Name": "api", "Protocol": "http"}
RESOLVER = {"Kind": "service-resolver", "Name": "web", "Subsets": {"v1": {"Filter": "Service.Meta.v == 1"}}}
SPLITTER = {"Kind": "service-splitter", "Name": "web", "Splits": [{"Weight": 100, "ServiceSubset": "v1"}]}
ROUTER = {"Kind": "service-router", "Name": "web", "Routes": [{"Destination": {"Service": "api"}}]}


def planned(store, *documents):
    entries = [read_entry(each) for each in documents]
    return plan_changes({each.key: each for each in entries}, store.read_all())


def applied(shelf, *documents):
    store = PolicyStore(shelf)
    return [(str(each.step.key), each.result, each.says) for each in carry_out(store, planned(store, *documents), find_actor(store))]


def results(shelf, *documents):
    return [f"{key}: {result}" for key, result, _ in applied(shelf, *documents)]


def test_what_others_refer_to_is_written_first():
    shelf = Shelf()
    assert results(shelf, ROUTER, SPLITTER, RESOLVER, HTTP, API) == [
        "service-defaults api: created", "service-defaults web: created", "service-resolver web: created",
        "service-splitter web: created", "service-router web: created",
    ]  # fmt: skip


def test_what_says_the_same_is_not_written():
    """However it is spelled; also when its document is of an older state that said otherwise."""
    shelf = Shelf(HTTP | {"MeshGateway": {}})
    assert results(shelf, {"kind": "service-defaults", "name": "web", "protocol": "http", "modify_index": 3}) == ["service-defaults web: unchanged"]
    assert shelf.written() == []


def test_a_document_of_an_older_state_does_not_write_over_a_newer_one():
    shelf = Shelf(HTTP)
    old = shelf.index
    shelf.put(HTTP | {"Protocol": "grpc"})
    (_, result, says), = applied(shelf, HTTP | {"ModifyIndex": old, "MaxInboundConnections": 5})
    assert (result, shelf.entries["service-defaults", "web"]["Protocol"]) == ("conflict", "grpc")
    assert f"of ModifyIndex {old}, and the catalog has {shelf.index}" in says
    assert results(shelf, HTTP | {"ModifyIndex": shelf.index}) == ["service-defaults web: changed"]
    (_, result, says), = applied(Shelf(), HTTP | {"ModifyIndex": 5})
    assert (result, "is not there any more" in says) == ("conflict", True)


def test_who_is_faster_is_not_written_over():
    shelf = Shelf(HTTP)
    shelf.before = lambda _method, path: shelf.put(HTTP | {"Mode": "direct"}) if path == "/v1/config" else None
    (_, result, says), = applied(shelf, HTTP | {"Protocol": "grpc"})
    assert (result, "changed by others" in says) == ("conflict", True)


def test_a_failure_is_told_and_the_rest_goes_on():
    shelf = Shelf()

    def refuse(method, path):
        if path == "/v1/config" and ("service-defaults", "web") in shelf.entries:
            raise CatalogError("no room")

    shelf.before = refuse
    assert applied(shelf, HTTP, RESOLVER, SPLITTER) == [
        ("service-defaults web", "created", ""), ("service-resolver web", "refused", "no room"), ("service-splitter web", "refused", "no room"),
    ]  # fmt: skip


def test_who_is_refused_is_tried_again_after_the_others():
    """The catalog does not let a subset go that a splitter names, until the splitter is changed, which comes later."""
    shelf = Shelf(HTTP, RESOLVER, SPLITTER)

    def refuse(method, path):
        named = [split.get("ServiceSubset") for split in shelf.entries["service-splitter", "web"]["Splits"]]
        if path == "/v1/config" and "v1" in named and "v2" not in tried:
            tried.append("v2")
            raise CatalogError("the splitter needs v1")

    tried = []
    shelf.before = refuse
    steps = (RESOLVER | {"Subsets": {"v2": {}}}, SPLITTER | {"Splits": [{"Weight": 100, "ServiceSubset": "v2"}]})
    assert results(shelf, *steps) == ["service-splitter web: changed", "service-resolver web: changed"]


@pytest.mark.parametrize(("error", "told"), [(CatalogUnreachable("gone"), "gone"), (CatalogTimeout("slow"), "it may have been written")])
def test_without_an_answer_nothing_more_is_tried(error, told):
    shelf = Shelf()

    def lose(method, path):
        if ("service-defaults", "web") in shelf.entries and path == "/v1/config":
            raise error

    shelf.before = lose
    found = applied(shelf, HTTP, RESOLVER, SPLITTER)
    assert [result for _, result, _ in found] == ["created", "refused", "not tried"]
    assert told in found[1][2]


def test_a_change_is_recorded_and_where_not_that_is_told():
    shelf = Shelf(HTTP)
    assert results(shelf, HTTP | {"Protocol": "grpc"}, API) == ["service-defaults api: created", "service-defaults web: changed"]
    trail, _ = PolicyStore(shelf).read_trail(Key("service-defaults", "web"))
    assert [(each.act, each.by.token, "grpc" in each.after_text) for each in trail.changes] == [("changed", "acc-1", True)]

    def refuse(method, path):
        if "/audit/" in path:
            raise CatalogError("full")

    shelf.before = refuse
    (_, result, says), = applied(shelf, HTTP)
    assert (result, says) == ("changed", "not recorded for `nodeagent policy history`: full")


def test_what_another_command_wrote_is_recorded_too():
    """`nodeagent intention allow` is no change from elsewhere."""
    shelf, key = Shelf(), Key("service-intentions", "web")
    allow = {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "shop", "Action": "allow"}]}
    assert [record_bodies(shelf, None, allow), record_bodies(shelf, allow, None), record_bodies(shelf, None, None)] == ["", "", ""]
    assert [change.act for change in PolicyStore(shelf).read_trail(key)[0].changes] == ["created", "deleted"]
    assert "Sources[0]: give either Action or Permissions" in record_bodies(shelf, {**allow, "Sources": [{"Name": "a"}]}, None)


def test_the_whole_is_checked_with_what_the_catalog_has():
    store = PolicyStore(Shelf(HTTP))
    current = store.read_all()
    with pytest.raises(PolicyError, match="api speaks tcp, and web speaks http"):
        check_plan(planned(store, ROUTER), current, ["web", "api"])
    assert check_plan(planned(store, ROUTER, API), current, ["web", "api"]) == []
    lost = {"Kind": "mirror", "Name": "web", "Copies": [{"Service": "appi"}]}
    assert "mirror web: Copies[0]: nobody knows a service appi; did you mean api?" in check_plan(planned(store, lost), current, ["web", "api"])


def test_what_was_wrong_before_does_not_stand_in_the_way():
    store = PolicyStore(Shelf(ROUTER))
    assert check_plan(planned(store, RESOLVER), store.read_all(), ["web"]) == []


def test_what_the_catalog_has_and_nobody_understands_is_not_as_if_it_were_not_there():
    """A newer version's service-defaults say what the service speaks; that is not tcp for it."""
    store = PolicyStore(Shelf(HTTP | {"Newer": 5}))
    assert check_plan(planned(store, ROUTER, API), store.read_all(), ["web", "api"]) == []


def test_what_others_need_is_not_removed_and_who_refers_goes_first():
    store = PolicyStore(Shelf(HTTP, API, RESOLVER, SPLITTER, ROUTER))
    current = store.read_all()
    with pytest.raises(PolicyError, match="the protocol of web is tcp"):
        check_plan(plan_removal({Key("service-defaults", "web"): None}, current), current, [])
    doubts = check_plan(plan_removal({Key("service-resolver", "web"): None}, current), current, ["web", "api"])
    assert doubts == ["service-splitter web: Splits[0]: the service-resolver of web has no subset v1"]
    steps = plan_removal({Key("service-resolver", "web"): None, Key("service-splitter", "web"): None}, current)
    assert [str(step.key) for step in steps] == ["service-splitter web", "service-resolver web"]
    assert [each.result for each in carry_out(store, steps, find_actor(store))] == ["deleted", "deleted"]


def test_a_step_shows_what_it_changes():
    store = PolicyStore(Shelf(HTTP))
    step, = planned(store, HTTP | {"Protocol": "grpc"})
    assert step.difference[-2:] == ["-Protocol: http", "+Protocol: grpc"]


def test_how_far_it_is_is_told():
    told, store = [], PolicyStore(Shelf())
    carry_out(store, planned(store, HTTP, API), find_actor(store), told.append)
    assert told == [1, 2]


def test_the_actor_is_who_runs_the_command(monkeypatch):
    monkeypatch.setenv("SUDO_USER", "alice")
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)
    actor = find_actor(PolicyStore(Shelf()))
    assert (actor.uid, actor.user, actor.sudo, actor.token) == (4_000_000, "4000000", "alice", "acc-1")
