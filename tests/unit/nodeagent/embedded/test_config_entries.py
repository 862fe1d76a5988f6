"""Config entries in the database: compare-and-set, and the watches that a change concerns."""

import msgspec
import pytest

from nodeagent.catalog.policy.entries import Key
from nodeagent.embedded.config_entries import (
    delete_entry,
    entry_topic,
    find_keys,
    intention_topics,
    kind_topic,
    put_entry,
    read_body,
    read_entries,
    read_entry,
    read_intentions,
    read_intentions_to,
)  # fmt: skip
from nodeagent.embedded.database import commit, newest_index, open_database
from nodeagent.embedded.entries import normal_entry

WEB = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}


def allow(source, destination):
    sources = [{"Name": source, "Action": "allow"}]
    return normal_entry({"Kind": "service-intentions", "Name": destination, "Sources": sources})


@pytest.fixture
def connection(tmp_path):
    made = open_database(tmp_path / "catalog.db", create=True)
    commit(made, lambda change: change.connection.execute("INSERT INTO state VALUES (1, 'td', 'dc1', 1)"))
    yield made
    made.close()


def put(connection, entry, cas=None):
    return commit(connection, lambda change: put_entry(change, entry, cas))


def test_what_was_put_is_read(connection):
    put(connection, WEB)
    put(connection, WEB | {"Name": "db"})
    assert read_entry(connection, "service-defaults", "web").value == WEB
    assert [stored.value["Name"] for stored in read_entries(connection, "service-defaults")] == ["db", "web"]
    assert read_entries(connection, "mesh") == []
    assert read_entry(connection, "mesh", "mesh") is None


def test_a_change_concerns_the_entry_and_its_kind(connection):
    assert put(connection, WEB)[1] == {kind_topic("service-defaults"), entry_topic("service-defaults", "web")}
    assert put(connection, WEB)[1] == set()
    assert commit(connection, lambda change: delete_entry(change, "service-defaults", "web"))[1] == {
        "entries:service-defaults", "entry:service-defaults/web", "gone:entry",
    }  # fmt: skip


def test_compare_and_set(connection):
    assert put(connection, WEB, 5)[0] is False
    assert put(connection, WEB, 0)[0] is True
    assert put(connection, WEB, 0)[0] is False
    index = newest_index(connection)
    assert put(connection, WEB | {"Protocol": "grpc"}, index)[0] is True
    assert put(connection, WEB, index)[0] is False
    assert read_entry(connection, "service-defaults", "web").value["Protocol"] == "grpc"


def test_compare_and_delete(connection):
    put(connection, WEB)
    remove = lambda cas: commit(connection, lambda c: delete_entry(c, "service-defaults", "web", cas))[0]  # noqa: E731
    assert remove(99) is False
    assert remove(newest_index(connection)) is True
    assert remove(0) is False
    assert remove(None) is True


def test_intentions_are_read_for_all_or_one_destination(connection):
    for entry in (allow("shop", "web"), allow("*", "*"), allow("shop", "db")):
        put(connection, entry)
    assert {(r.source, r.destination) for r in read_intentions(connection)} == {
        ("shop", "web"),
        ("*", "*"),
        ("shop", "db"),
    }
    assert {(r.source, r.destination) for r in read_intentions_to(connection, "web")} == {("shop", "web"), ("*", "*")}
    assert [r.destination for r in read_intentions_to(connection, "*")] == ["*"]
    assert intention_topics("web") == ("entry:service-intentions/web", "entry:service-intentions/*")


def test_a_change_is_checked_when_it_would_be_one(connection):
    asked = []

    def check(_connection, key, entry):
        asked.append((str(key), entry))

    made = commit(connection, lambda change: [put_entry(change, WEB, 5, check), put_entry(change, WEB, 0, check), put_entry(change, WEB, None, check)])[0]
    assert made == [False, True, True]
    assert asked == [("service-defaults web", WEB)]
    commit(connection, lambda change: [delete_entry(change, WEB["Kind"], name, None, check) for name in ("db", "web")])
    assert asked[1:] == [("service-defaults web", None)]


def test_entries_are_found_by_a_word_in_them(connection):
    for entry in (WEB, WEB | {"Name": "web-2"}, allow("web", "db")):
        put(connection, entry)
    keys = [Key("service-defaults", "web"), Key("service-defaults", "web-2"), Key("service-intentions", "db")]
    assert find_keys(connection, ("service-defaults", "service-intentions")) == keys
    assert find_keys(connection, ("service-defaults", "service-intentions"), "web") == [keys[0], keys[2]]
    assert (read_body(connection, *keys[0]), read_body(connection, "mesh", "mesh")) == (msgspec.json.encode(WEB), None)
