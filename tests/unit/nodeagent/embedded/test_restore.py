"""Snapshots put back: data go back, trust does not, and whoever waits hears of it."""

import asyncio
from contextlib import closing

import pytest

from nodeagent import limits
from nodeagent.embedded import catalog_api, config_api, kv_api, tokens_api
from nodeagent.embedded.archive import counts_of, save, unpack
from nodeagent.embedded.asking import find
from nodeagent.embedded.authority import read_listener_root, read_roots
from nodeagent.embedded.certified import read_revoked
from nodeagent.embedded.database import index_of, newest_index, open_database, restored_by
from nodeagent.embedded.datadir import DATABASE, prepare_data
from nodeagent.embedded.refusal import StorageFailed
from nodeagent.embedded.restore import count_kept, is_whole, restore
from nodeagent.embedded.tokens import read_tokens
from nodeagent.errors import CatalogError
from tests.unit.nodeagent.embedded.desk import HOST1, NOW

WEB = {"Node": "host1", "Address": "10.0.0.1", "Service": {"Service": "web", "Port": 80}}
DEFAULTS = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}


@pytest.fixture
def filled(desk):
    desk.call(catalog_api.register, body=WEB)
    desk.call(config_api.put, body=DEFAULTS)
    desk.call(kv_api.put, body=b"1", key="a")
    return desk


def connect(directory, *, create=False):
    return closing(open_database(directory / DATABASE, create=create))


def snapshot(desk, name="one"):
    with connect(desk.directory) as connection:
        save(connection, desk.directory, desk.directory / name, 5.0)


def put_back(desk, into=None, name="one"):
    directory = into or desk.directory
    with unpack(desk.directory / name, directory) as (raw, about), connect(directory, create=True) as connection:
        return restore(connection, raw, about)


def held(directory):
    with connect(directory) as connection:
        tables = ("nodes", "services", "addresses", "entries", "kv", "maintenance")
        columns = {"nodes": "name, body", "services": "node, id, name, body", "entries": "kind, name, body", "kv": "key, value, flags"}
        return {table: connection.execute(f"SELECT {columns.get(table, '*')} FROM {table}").fetchall() for table in tables}


def test_data_are_again_as_they_were(filled):
    before = held(filled.directory)
    snapshot(filled)
    filled.call(catalog_api.deregister, body={"Node": "host1"})
    filled.call(catalog_api.register, body={"Node": "host9", "Address": "10.0.0.9"})
    filled.call(config_api.delete, kind="service-defaults", name="web")
    filled.call(kv_api.put, body=b"2", key="a")
    filled.call(kv_api.put, body=b"2", key="b")
    assert held(filled.directory) != before
    assert put_back(filled) is False
    assert held(filled.directory) == before
    assert [row["Node"]["Node"] for row in filled.call(catalog_api.health, name="web")] == ["host1"]


def test_each_answer_tells_by_which_change_it_was_restored_last(filled):
    """As its index goes on: nothing else tells an agent that what is missing was not taken away."""

    def told():
        with connect(filled.directory) as connection:
            return restored_by(connection), newest_index(connection)

    assert told()[0] == 0
    snapshot(filled)
    put_back(filled)
    first, newest = told()
    assert first == newest > 0
    put_back(filled)
    assert told()[0] > first


def test_a_token_that_was_revoked_stays_revoked_and_a_newer_one_stays_valid(filled):
    snapshot(filled)
    made = filled.call(tokens_api.create, body={"NodeIdentities": [{"NodeName": "host3"}]})
    filled.call(tokens_api.delete, accessor=HOST1.accessor)
    put_back(filled)
    with connect(filled.directory) as connection:
        accessors = {token.caller.accessor for token in read_tokens(connection)}
        assert made["AccessorID"] in accessors
        assert HOST1.accessor not in accessors
        assert [each.accessor for each in read_revoked(connection)] == [HOST1.accessor]


def test_a_root_that_was_given_up_is_not_believed_again(filled):
    snapshot(filled)
    with connect(filled.directory) as connection:
        connection.execute("UPDATE roots SET id = 'another'")
        before = read_roots(connection), read_listener_root(connection)
    put_back(filled)
    with connect(filled.directory) as connection:
        assert (read_roots(connection), read_listener_root(connection)) == before


def test_the_trail_of_who_changed_what_does_not_go_back(filled, tmp_path_factory):
    """Else nothing would tell that policy was undone. What is in the snapshot alone comes, and an empty directory gets all."""
    for key in ("gone", "web"):
        filled.call(kv_api.put, body=b"then", key=f"nodeagent/audit/service-defaults/{key}")
    snapshot(filled)
    filled.call(kv_api.delete, key="nodeagent/audit/service-defaults/gone")
    filled.call(kv_api.put, body=b"now", key="nodeagent/audit/service-defaults/web")
    for key in ("nodeagent/audit/service-defaults/new", "nodeagent/audit-not", "nodeagent/audit0"):
        filled.call(kv_api.put, body=b"now", key=key)
    with unpack(filled.directory / "one", filled.directory) as (raw, _), connect(filled.directory) as connection:
        assert count_kept(connection, raw) == 1
    put_back(filled)
    assert sorted(held(filled.directory)["kv"]) == [
        ("a", b"1", 0), ("nodeagent/audit/service-defaults/gone", b"then", 0), ("nodeagent/audit/service-defaults/new", b"now", 0),
        ("nodeagent/audit/service-defaults/web", b"now", 0),
    ]  # fmt: skip
    into = tmp_path_factory.mktemp("fresh")
    assert put_back(filled, into) is True
    assert sorted(row[1] for row in held(into)["kv"]) == [b"1", b"then", b"then"]


def test_an_empty_directory_gets_everything_and_the_index_of_then(filled, tmp_path_factory):
    into = tmp_path_factory.mktemp("fresh")
    snapshot(filled)
    for number in range(10):
        filled.call(kv_api.put, body=b"%d" % number, key="later")
    with connect(filled.directory) as connection:
        before = read_roots(connection), read_listener_root(connection), read_tokens(connection)
        newest = newest_index(connection)
    assert put_back(filled, into) is True
    with connect(into) as connection:
        assert [root._replace(modify_index=0) for root in read_roots(connection)] == [root._replace(modify_index=0) for root in before[0]]
        assert (read_listener_root(connection), read_tokens(connection)) == before[1:]
        assert newest_index(connection) < newest
    assert prepare_data(into, "dc1", NOW) == filled.realm
    assert (into / "management.token").exists() is False


def test_in_an_empty_directory_whatever_was_changed_since_has_a_lower_number(filled, tmp_path_factory):
    """Also after one change: by that alone agents tell the older catalog."""
    into = tmp_path_factory.mktemp("fresh")
    snapshot(filled)
    with connect(filled.directory) as connection:
        saved = newest_index(connection)
    filled.call(kv_api.put, body=b"x", key="later")
    with connect(filled.directory) as connection:
        assert newest_index(connection) == saved + 1
    put_back(filled, into)
    with connect(into) as connection:
        assert newest_index(connection) == saved
        topics = dict(connection.execute("SELECT topic, idx FROM topics"))
        assert topics
        assert max(topics.values()) <= saved


def test_another_catalogs_snapshot_is_refused_and_nothing_changed(filled, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    prepare_data(other, "dc1", NOW)
    snapshot(filled)
    before = held(other)
    with pytest.raises(CatalogError, match="restore it into an empty directory"):
        put_back(filled, other)
    assert held(other) == before
    with connect(other) as connection, unpack(filled.directory / "one", other) as (_, about), pytest.raises(CatalogError):
        is_whole(connection, about)


def test_the_index_goes_on_and_no_number_means_two_things(filled):
    snapshot(filled)
    filled.call(kv_api.put, body=b"2", key="a")
    (later,) = filled.call(kv_api.read, key="a")
    put_back(filled)
    (now,) = filled.call(kv_api.read, key="a")
    assert now["ModifyIndex"] > later["ModifyIndex"]
    assert filled.call(kv_api.put, body=b"3", query={"cas": str(later["ModifyIndex"])}, key="a") is False
    with connect(filled.directory) as connection:
        newest = newest_index(connection)
        for topics in (("service:web",), ("service:nothing",), ("nodes",), ("roots",), ("entry:service-defaults/web",)):
            assert index_of(connection, topics) == newest, topics


READS = [
    (catalog_api.health, {"name": "web"}), (catalog_api.nodes, {}), (config_api.every, {"kind": "service-defaults"}),
    (kv_api.read, {"key": "a"}), (kv_api.read, {"key": "never"}),
]  # fmt: skip


@pytest.mark.parametrize(("handler", "path"), READS)
def test_whoever_waits_is_answered_after_a_restore(filled, monkeypatch, handler, path):
    """Also who waits for one key, and for what is not there; by the look for what other processes wrote."""
    monkeypatch.setattr(limits, "CATALOG_OTHERS_S", 0.01)
    snapshot(filled)

    async def run():
        hearing = asyncio.create_task(filled.store.hear_others())
        first = await find(filled.ask(**path), await handler(filled.ask(**path)))
        ask = filled.ask(query={"index": str(first.index), "wait": "60s"}, **path)
        waiting = asyncio.create_task(find(ask, await handler(ask)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await asyncio.get_running_loop().run_in_executor(None, put_back, filled)
        async with asyncio.timeout(10):
            found = await waiting
        hearing.cancel()
        return first.index, found.index

    before, after = asyncio.run(run())
    assert after > before


def test_a_full_disk_changes_nothing(filled):
    filled.call(kv_api.put, body=b"x" * 200_000, key="large")
    snapshot(filled)
    filled.call(kv_api.delete, key="large")
    filled.call(kv_api.put, body=b"2", key="a")
    before = held(filled.directory)
    with unpack(filled.directory / "one", filled.directory) as (raw, about), connect(filled.directory) as connection:
        connection.execute("VACUUM")
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageFailed, match="disk under the catalog's data is full"):
            restore(connection, raw, about)
    assert held(filled.directory) == before
    assert counts_of(filled.store._reader)["kv"] == 1
