"""The database: nothing half, an index for every change, topics that remember it."""

import sqlite3

import pytest

from nodeagent import limits
from nodeagent.embedded import database
from nodeagent.embedded.database import (
    Change,
    commit,
    index_of,
    newest_index,
    open_database,
    query,
    storage_failed,
)  # fmt: skip
from nodeagent.embedded.refusal import StorageFailed, TooLarge
from nodeagent.errors import CatalogError


@pytest.fixture
def connection(tmp_path):
    made = open_database(tmp_path / "catalog.db", create=True)
    commit(made, lambda change: change.connection.execute("INSERT INTO state VALUES (1, 'td', 'dc1', 1)"))
    yield made
    made.close()


def put_key(key, size=1):
    def write(change):
        sql = "INSERT OR REPLACE INTO kv VALUES (?, ?, 0, ?, ?)"
        change.connection.execute(sql, (key, b"x" * size, change.index, change.index))
        change.touch(f"kv:{key}")

    return write


def test_every_change_takes_one_number_and_what_changes_nothing_takes_none(connection):
    commit(connection, put_key("a"))
    commit(connection, lambda change: change.touch("a", "b", "c"))
    commit(connection, lambda _change: None)
    assert newest_index(connection) == 3


def test_a_topic_knows_its_own_last_change(connection):
    commit(connection, lambda change: change.touch("service:web", "services"))
    commit(connection, lambda change: change.touch("service:db"))
    assert (index_of(connection, ["service:web"]), index_of(connection, ["service:db"])) == (2, 3)
    assert index_of(connection, ["service:web", "service:db"]) == 3
    assert index_of(connection, ["service:other"]) == 1
    assert index_of(connection, []) == 1


def test_what_ends_is_remembered_once_for_all_names(connection):
    for number in range(20):
        commit(connection, lambda change, n=number: change.touch(f"service:{n}"))
        _, touched = commit(connection, lambda change, n=number: change.end(f"service:{n}"))
        assert f"service:{number}" in touched
    assert index_of(connection, ["service:3"]) == newest_index(connection)
    assert connection.execute("SELECT count(*) FROM topics").fetchone()[0] == 1


def test_a_failed_write_leaves_nothing(connection):
    def write(change):
        put_key("a")(change)
        raise ValueError("on the way")

    with pytest.raises(ValueError, match="on the way"):
        commit(connection, write)
    assert newest_index(connection) == 1
    assert connection.execute("SELECT count(*) FROM kv").fetchone()[0] == 0


def test_a_full_disk_stores_nothing_says_so_and_is_over_when_there_is_room(connection):
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageFailed, match="disk under the catalog's data is full"):
        commit(connection, put_key("a", 100_000))
    assert newest_index(connection) == 1
    connection.execute("PRAGMA max_page_count = 100000")
    commit(connection, put_key("a", 100_000))
    assert newest_index(connection) == 2


def test_a_table_has_a_limit(connection, monkeypatch):
    monkeypatch.setattr(limits, "CATALOG_ROWS", 3)
    for key in "abc":
        commit(connection, put_key(key))
    with pytest.raises(TooLarge, match="holds 3 kv"):
        commit(connection, lambda change: change.check_room("kv"))


def test_a_read_sees_one_state_while_another_writes(tmp_path, connection):
    other = open_database(tmp_path / "catalog.db")

    def read(reader):
        before = newest_index(reader)
        commit(other, put_key("a"))
        return before, newest_index(reader)

    assert query(connection, read) == (1, 1)
    assert query(connection, newest_index) == 2
    other.close()


def test_writes_are_synced_to_the_disk(connection):
    """An acknowledged write survives a power cut."""
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_reader_whose_database_breaks_gets_our_error(connection):
    with pytest.raises(StorageFailed, match="cannot be read"):
        query(connection, lambda c: c.execute("SELECT * FROM nothing"))


def test_an_absent_catalog_is_not_made_by_accident(tmp_path):
    with pytest.raises(CatalogError, match="start one with: nodeagent catalog"):
        open_database(tmp_path / "catalog.db")
    assert not (tmp_path / "catalog.db").exists()


def test_a_newer_catalog_is_refused(tmp_path, connection):
    connection.execute("PRAGMA user_version = 99")
    with pytest.raises(CatalogError, match="version 99"):
        open_database(tmp_path / "catalog.db")


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.db").write_bytes(b"not a database" * 100)
    with pytest.raises(CatalogError, match="cannot be opened"):
        open_database(tmp_path / "x.db")


def test_opening_twice_for_the_first_time_makes_it_once(tmp_path):
    first = open_database(tmp_path / "y.db", create=True)
    second = open_database(tmp_path / "y.db", create=True)
    assert isinstance(Change(second).touched, set)
    first.close()
    second.close()


def test_storage_errors_name_what_sqlite_said():
    assert "OperationalError" in str(storage_failed(sqlite3.OperationalError("locked")))


def test_a_catalog_of_version_2_is_brought_up_to_date_by_the_server_with_its_root(tmp_path):
    """Whole or not at all; the command line does not do it under a server of the old version."""
    path = tmp_path / "old.db"
    made = sqlite3.connect(path, isolation_level=None)
    for statement in database._SCHEMA.split(";")[:-1]:
        made.execute(statement)
    made.execute("INSERT INTO roots VALUES ('r1', 'cert', 'key', 1, 7)")
    made.execute("INSERT INTO state VALUES (1, 'x.consul', 'dc1', 7)")
    made.execute("PRAGMA user_version = 2")
    made.close()
    with pytest.raises(CatalogError, match="is of version 2"):
        open_database(path)
    for _ in range(2):
        connection = open_database(path, create=True)
        assert connection.execute("SELECT id, active, trusted FROM roots").fetchall() == [("r1", 1, 1)]
        assert connection.execute("SELECT count(*) FROM certified").fetchone() == (0,)
        connection.close()


def test_a_write_waits_for_another_but_not_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "CATALOG_LOCK_S", 0.05)
    writers = [open_database(tmp_path / "other.db", create=True) for _ in range(2)]
    writers[0].execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageFailed):
        commit(writers[1], put_key("a"))
    writers[0].execute("COMMIT")
    commit(writers[1], lambda _change: None)
    for writer in writers:
        writer.close()
