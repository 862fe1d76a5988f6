"""Entries in the catalog: config entries, keys of the KV store, and trails."""

import json

import msgspec
import pytest

from nodeagent import limits
from nodeagent.catalog.policy.audit import Actor, Change, Trail
from nodeagent.catalog.policy.entries import Key, read_entry
from nodeagent.cli.policy_store import PolicyStore, Stored, change_of
from nodeagent.errors import CatalogError
from tests.support.shelf import ALL as ALL_KINDS
from tests.support.shelf import OF_1_8, Shelf

ROOT = Actor(0, "root", "host1", "acc")
WEB = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}
FAULT = {"Kind": "fault", "Name": "web", "Injections": [{"Delay": "1s"}]}
ALL = {"Kind": "service-intentions", "Name": "*", "Sources": [{"Name": "*", "Action": "deny"}]}


def test_consuls_kinds_are_config_entries_and_ours_are_keys():
    shelf = Shelf(WEB)
    store = PolicyStore(shelf)
    assert store.write(read_entry(FAULT), 0)
    assert json.loads(shelf.values["nodeagent/config/fault/web"][0]) == FAULT
    assert {key: stored.body for key, stored in store.read_all().items()} == {
        Key("service-defaults", "web"): WEB, Key("fault", "web"): FAULT,
    }  # fmt: skip
    assert (store.place("fault"), store.place("service-defaults")) == ("nodeagent/config/fault", "config")


@pytest.mark.parametrize("entry", [WEB, FAULT])
def test_a_write_is_of_the_state_that_was_read(entry):
    store, key = PolicyStore(Shelf()), Key(entry["Kind"], "web")
    assert store.write(read_entry(entry), 0)
    assert not store.write(read_entry(entry), 0)
    stored = store.read(key)
    assert stored is not None
    assert not store.delete(key, stored.index + 1)
    assert store.delete(key, stored.index)
    assert store.read(key) is None


def test_the_only_namespace_is_not_written():
    """Consul 1.8.7 answers 400: namespaces are a feature of its enterprise edition."""
    shelf = Shelf()
    assert PolicyStore(shelf).write(read_entry(WEB | {"Namespace": "default", "Partition": "default"}), 0)
    assert {key: value for key, value in shelf.entries["service-defaults", "web"].items() if not key.endswith("Index")} == WEB


def test_a_kind_that_the_catalog_has_not_is_kept_in_keys():
    """As Consul 1.8 has no service-intentions; the name `*` is a key, too."""
    shelf = Shelf(WEB, kinds=OF_1_8)
    store = PolicyStore(shelf)
    assert store.write(read_entry(ALL), 0)
    assert list(shelf.values) == ["nodeagent/config/service-intentions/*"]
    assert [str(stored.key) for stored in store.read_kind("service-intentions")] == ["service-intentions *"]
    stored = store.read(Key("service-intentions", "*"))
    assert stored is not None
    assert stored.body == ALL
    assert [kind for kind in ("mesh", "service-router") if store.is_in_kv(kind)] == ["mesh"]


def test_another_refusal_is_no_lack_of_a_kind():
    class Closed(Shelf):
        def ask(self, method, path, body=None, **query):
            raise CatalogError("the catalog answered 403")

    with pytest.raises(CatalogError, match="403"):
        PolicyStore(Closed()).read_all()


def test_what_this_version_does_not_understand_is_shown_as_it_came():
    shelf = Shelf(WEB | {"Newer": 5})
    shelf.values["nodeagent/config/fault/x"] = b"[", 3
    found = PolicyStore(shelf).read_all()
    stored = found[Key("service-defaults", "web")]
    assert (stored.entry, stored.body) == (None, WEB | {"Newer": 5})
    assert found[Key("fault", "x")] == Stored(Key("fault", "x"), {}, 3, None)


@pytest.mark.parametrize("answer", [5, "x", [5], {"a": 1}, [{"Key": "k"}], [{"Key": "k", "ModifyIndex": "x"}]])
def test_an_answer_that_is_not_consuls_is_an_error_of_the_catalog(answer):
    class Odd(Shelf):
        def ask(self, method, path, body=None, **query):
            return answer

    assert PolicyStore(Odd()).token() == ""
    for read in (lambda store: store.read(Key("fault", "web")), lambda store: store.read_all(), lambda store: store.read_trail(Key("fault", "web"))):
        with pytest.raises(CatalogError, match="is not Consul's"):
            read(PolicyStore(Odd()))


def test_one_key_has_one_row():
    class Empty(Shelf):
        def ask(self, method, path, body=None, **query):
            return []

    with pytest.raises(CatalogError, match="0 rows for one key"):
        PolicyStore(Empty()).read(Key("fault", "web"))


def test_services_and_the_accessor_of_the_token_are_asked_for():
    class Anonymous(Shelf):
        def ask(self, method, path, body=None, **query):
            raise CatalogError("the catalog answered 401")

    assert PolicyStore(Shelf()).services() == ["web", "api", "shop"]
    assert (PolicyStore(Shelf()).token(), PolicyStore(Anonymous()).token()) == ("acc-1", "")


class Busy(Shelf):
    def ask(self, method, path, body=None, **query):
        raise CatalogError("the catalog answered 429 to PUT /v1/config: writes too fast")


def test_a_catalog_that_takes_no_more_for_now_is_asked_again(monkeypatch):
    waited, shelf = [], Shelf()
    monkeypatch.setattr("time.sleep", waited.append)

    def busy(_method, _path):
        if len(waited) < limits.POLICY_BUSY_TRIES:
            raise CatalogError("the catalog answered 429 to PUT /v1/config: writes too fast")

    shelf.before = busy
    assert PolicyStore(shelf).write(read_entry(WEB), 0)
    assert waited == [limits.POLICY_BUSY_S] * limits.POLICY_BUSY_TRIES
    with pytest.raises(CatalogError, match="429"):
        PolicyStore(Busy()).write(read_entry(WEB), 0)


def test_trails_grow_also_against_others():
    shelf = Shelf()
    store, key = PolicyStore(shelf), Key("mesh", "mesh")
    store.record(key, Change(1.0, ROOT, "created", "", "a"))
    races = [True, False]

    def faster(_method, path):
        if races.pop(0):
            value, index = shelf.values[path.removeprefix("/v1/kv/")]
            shelf.values[path.removeprefix("/v1/kv/")] = value, index + 1

    shelf.before = faster
    store.record(key, Change(2.0, ROOT, "changed", "a", "b"))
    assert [change.after for change in store.read_trail(key)[0].changes] == ["a", "b"]
    assert list(store.read_trails()) == [(key, *store.read_trail(key))]


def test_a_trail_that_others_always_change_is_given_up_with_a_word():
    class Racing(Shelf):
        def ask(self, method, path, body=None, **query):
            return False if method == "PUT" else super().ask(method, path, body, **query)

    with pytest.raises(CatalogError, match="was changed by others"):
        PolicyStore(Racing()).record(Key("mesh", "mesh"), Change(1.0, ROOT, "created", "", "a"))


def test_trails_that_rested_longest_go_where_there_are_too_many(monkeypatch):
    """What is not understood stays: a newer version may have written it."""
    shelf = Shelf()
    for number in range(5):
        trail = Trail((Change(float(number), ROOT, "created", "", "a"),))
        shelf.values[f"nodeagent/audit/fault/s{4 - number}"] = msgspec.json.encode(trail), 1
    shelf.values["nodeagent/audit/fault/x"] = b"{", 1
    PolicyStore(shelf).prune_trails()
    assert len(shelf.values) == 6
    monkeypatch.setattr(limits, "POLICY_TRAILS", 3)
    PolicyStore(shelf).prune_trails()
    assert sorted(shelf.values) == [f"nodeagent/audit/fault/{name}" for name in ("s0", "s1", "s2", "x")]


def test_a_change_has_both_hashes_and_texts():
    entry = read_entry(WEB)
    stored = Stored(entry.key, WEB | {"Protocol": "grpc"}, 5, None)
    made = change_of(stored, entry, 7.0, ROOT)
    assert made is not None
    assert (made.act, made.at, made.before != made.after) == ("changed", 7.0, True)
    assert ("grpc" in made.before_text, "Protocol: http\n" in made.after_text) == (True, True)
    created, deleted = change_of(None, entry, 1.0, ROOT), change_of(stored, None, 1.0, ROOT)
    assert (created and created.act, deleted and deleted.act) == ("created", "deleted")
    assert change_of(Stored(entry.key, entry.said, 5, None), entry, 1.0, ROOT) is None


def test_consul_that_compares_nothing_at_a_deletion_is_looked_at_before():
    """Consul 1.8 takes `cas` for entries that are written, and deletes whatever there is."""
    shelf = Shelf(WEB, kinds=OF_1_8)
    store, key = PolicyStore(shelf), Key("service-defaults", "web")
    stored = store.read(key)
    assert stored is not None
    shelf.put(WEB | {"Protocol": "grpc"})
    assert not store.delete(key, stored.index)
    assert (shelf.entries["service-defaults", "web"]["Protocol"], store.is_blind) == ("grpc", False)
    assert store.delete(key, shelf.index)
    assert (shelf.entries, store.is_blind) == ({}, True)
    assert not store.delete(key, stored.index)
    newer = PolicyStore(Shelf(WEB))
    assert newer.delete(key, 11)
    assert not newer.is_blind


@pytest.mark.parametrize("body", [FAULT | {"Kind": "mirror"}, {**FAULT, "kind": "mirror", "name": "db"}, {"Injections": FAULT["Injections"]}])
def test_the_key_says_what_an_entry_is(body):
    """As whoever acts on it finds it: what it calls itself is nobody's key."""
    shelf = Shelf()
    shelf.values["nodeagent/config/fault/web"] = json.dumps(body).encode(), 3
    key = Key("fault", "web")
    assert PolicyStore(shelf).read(key) == Stored(key, FAULT, 3, read_entry(FAULT))
    assert PolicyStore(shelf).read_kind("fault") == [PolicyStore(shelf).read(key)]


def test_a_trail_that_is_not_understood_is_not_written_over():
    shelf, key = Shelf(), Key("mesh", "mesh")
    shelf.values["nodeagent/audit/mesh/mesh"] = b'{"changes": 5}', 3
    store = PolicyStore(shelf)
    with pytest.raises(CatalogError, match="is not understood by this version, and stays as it is: nodeagent/audit/mesh/mesh"):
        store.record(key, Change(1.0, ROOT, "created", "", "a"))
    assert (shelf.written(trails=True), list(store.read_trails())) == ([], [(key, None, 3)])


class Small(Shelf):
    """Whose answers would be too long with more than three rows."""

    def ask(self, method, path, body=None, **query):
        answer = super().ask(method, path, body, **query)
        assert "recurse" not in query or len(answer) <= 3
        return answer


def test_many_trails_are_read_a_part_after_another(monkeypatch):
    """All in one answer broke its limit with 4,500 of them."""
    monkeypatch.setattr(limits, "POLICY_TRAILS_ASKED", 3)
    shelf = Small()
    names = ["a", "aa", "aaa", "aab", "aac", "b", "b/c", "b?c", "web-1", "web-2", "web-3", "web-4"]
    for kind in ("fault", "mesh"):
        for name in names:
            shelf.values[f"nodeagent/audit/{kind}/{name}"] = msgspec.json.encode(Trail((Change(1.0, ROOT, "created", "", name),))), 1
    shelf.values["nodeagent/audit/odd"] = b"{}", 1
    store = PolicyStore(shelf)
    read = [(key, trail.changes[0].after) for key, trail, _ in store.read_trails() if trail]
    assert sorted(read) == [(Key(kind, name), name) for kind in ("fault", "mesh") for name in names]
    assert sorted(key for key, _, _ in store.read_trails("mesh")) == [Key("mesh", name) for name in names]


@pytest.mark.parametrize("names", [[f"{'a' * 1000}{number}" for number in range(70)], ["a" * length for length in range(1, 1200)]])
def test_names_that_begin_alike_are_read_as_any_others(names):
    """However long what they have in common is, or each with all of the next."""
    shelf = Shelf()
    for name in names:
        shelf.values[f"nodeagent/audit/fault/{name}"] = msgspec.json.encode(Trail((Change(1.0, ROOT, "created", "", "a"),))), 1
    assert sorted(key.name for key, _, _ in PolicyStore(shelf).read_trails()) == sorted(names)


def test_a_trail_that_somebody_wrote_to_meanwhile_stays(monkeypatch):
    monkeypatch.setattr(limits, "POLICY_TRAILS", 1)
    shelf = Shelf()
    for number in range(3):
        shelf.values[f"nodeagent/audit/fault/s{number}"] = msgspec.json.encode(Trail((Change(float(number), ROOT, "created", "", "a"),))), 1

    def faster(_method, path):
        if path.endswith("s0"):
            shelf.values["nodeagent/audit/fault/s0"] = b"{}", 2

    shelf.before = faster
    PolicyStore(shelf).prune_trails()
    assert sorted(shelf.values) == ["nodeagent/audit/fault/s0", "nodeagent/audit/fault/s2"]


def test_who_may_not_look_removes_no_trails():
    class Closed(Shelf):
        def ask(self, method, path, body=None, **query):
            raise CatalogError("the catalog answered 403")

    PolicyStore(Closed()).prune_trails()


@pytest.mark.parametrize("kinds", [ALL_KINDS, OF_1_8])
def test_what_the_kv_store_had_before_an_upgrade_is_removed(kinds):
    """Of the entries that were named, and where the catalog keeps them by itself; not of kinds that are kept there."""
    shelf = Shelf(kinds=kinds)
    shelf.values |= {f"nodeagent/config/{path}": (b"{}", 3) for path in ("service-intentions/web", "service-intentions/web-2", "fault/web")}
    named = [Key("service-intentions", "web"), Key("service-intentions", "db"), Key("fault", "web")]
    removed = PolicyStore(shelf).remove_left_over(named)
    left = {"nodeagent/config/service-intentions/web-2", "nodeagent/config/fault/web"}
    assert (removed, set(shelf.values) - left) == (([Key("service-intentions", "web")], set()) if kinds == ALL_KINDS else ([], {"nodeagent/config/service-intentions/web"}))


def test_who_may_not_list_keys_removes_nothing():
    class Closed(Shelf):
        def ask(self, method, path, body=None, **query):
            if path.startswith("/v1/kv/"):
                raise CatalogError("the catalog answered 403")
            return super().ask(method, path, body, **query)

    assert PolicyStore(Closed()).remove_left_over([Key("service-intentions", "web")]) == []


def test_rights_are_those_to_the_places_of_the_kinds():
    """As a Consul 1.8 keeps them, and one that has them all."""
    old, new = PolicyStore(Shelf(kinds=OF_1_8)), PolicyStore(Shelf())
    assert [(each.resource, each.segment) for each in old.rights_to("service-intentions")] == [("key", "nodeagent/config/service-intentions/")]
    assert [each.resource for each in new.rights_to("service-intentions", with_trails=True)] == ["intention", "key"]
    assert [each.resource for each in new.rights_to("mesh")] == []
    assert {(each.resource, each.segment) for each in new.rights_to(None)} == {
        ("intention", "nodeagent-proof"), ("service", "nodeagent-proof"), ("key", "nodeagent/config/"),
    }  # fmt: skip
