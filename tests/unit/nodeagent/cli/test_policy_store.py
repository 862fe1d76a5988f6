"""Entries in the catalog: config entries, keys of the KV store, and trails."""

import json

import msgspec
import pytest

from nodeagent import limits
from nodeagent.catalog.policy.audit import Actor, Change, Trail
from nodeagent.catalog.policy.entries import Key, read_entry
from nodeagent.cli.policy_store import PolicyStore, Stored, change_of
from nodeagent.errors import CatalogError
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
    assert store.read_trails() == {key: store.read_trail(key)[0]}


def test_a_trail_that_others_always_change_is_given_up_with_a_word():
    class Racing(Shelf):
        def ask(self, method, path, body=None, **query):
            return False if method == "PUT" else super().ask(method, path, body, **query)

    with pytest.raises(CatalogError, match="was changed by others"):
        PolicyStore(Racing()).record(Key("mesh", "mesh"), Change(1.0, ROOT, "created", "", "a"))


def test_trails_that_rested_longest_go_where_there_are_too_many(monkeypatch):
    shelf = Shelf()
    for number in range(5):
        trail = Trail((Change(float(number), ROOT, "created", "", "a"),))
        shelf.values[f"nodeagent/audit/fault/s{4 - number}"] = msgspec.json.encode(trail), 1
    shelf.values["nodeagent/audit/fault/x"] = b"{", 1
    PolicyStore(shelf).prune_trails()
    assert len(shelf.values) == 6
    monkeypatch.setattr(limits, "POLICY_TRAILS", 3)
    PolicyStore(shelf).prune_trails()
    assert sorted(shelf.values) == [f"nodeagent/audit/fault/s{number}" for number in range(3)]


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
