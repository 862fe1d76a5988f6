"""A failing disk is told of once in a while, however often it fails, and what it holds is not trusted after some failures."""

import asyncio
import sqlite3

import pytest

from nodeagent import limits
from nodeagent.embedded.database import commit, open_database
from nodeagent.embedded.failures import Failures, name_of
from nodeagent.embedded.refusal import StorageFailed
from nodeagent.embedded.store import Store


def failure(name="SQLITE_FULL"):
    error = sqlite3.OperationalError("failed")
    error.sqlite_errorname = name
    made = StorageFailed(f"not stored: {name}")
    made.__cause__ = error
    return made


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def lines(capsys):
    found = capsys.readouterr()
    return [line for line in (found.out + found.err).splitlines() if "catalog_storage" in line]


def test_a_full_disk_fills_no_log(capsys):
    """Agents try again and again."""
    clock = Clock()
    failures = Failures(clock)
    for _ in range(1000):
        failures.note(failure())
    first = lines(capsys)
    clock.now = limits.CATALOG_FAILURES_S
    failures.note(failure())
    second = lines(capsys)
    assert [len(first), len(second), "999" in second[0]] == [1, 1, True]


def test_another_kind_of_failure_is_told_at_once(capsys):
    failures = Failures(Clock())
    failures.note(failure())
    failures.note(failure("SQLITE_IOERR_WRITE"))
    assert [name in line for name, line in zip(("SQLITE_FULL", "SQLITE_IOERR_WRITE"), lines(capsys), strict=True)] == [True, True]


def test_that_it_is_well_again_is_told_once_and_the_next_failure_too(capsys):
    clock = Clock()
    failures = Failures(clock)
    failures.end()
    assert lines(capsys) == []
    failures.note(failure())
    clock.now = limits.CATALOG_FAILURES_S
    for _ in range(2):
        failures.end()
    failures.note(failure())
    assert ["catalog_storage_failed" in line for line in lines(capsys)] == [True, False, True]


def test_small_writes_that_find_room_on_a_full_disk_do_not_fill_the_log(capsys):
    """Each second one fails and the next does not, for ten minutes."""
    clock = Clock()
    failures = Failures(clock)
    for second in range(600):
        clock.now = second
        failures.note(failure())
        failures.end()
    assert ["catalog_storage_failed" in line for line in lines(capsys)] == [True] * 10


def test_what_writes_nothing_says_nothing_of_the_disk(tmp_path, capsys, monkeypatch):
    """An agent that registers once more what is there."""
    monkeypatch.setattr(limits, "CATALOG_FAILURES_S", 0.0)
    made = open_database(tmp_path / "catalog.db", create=True)
    commit(made, lambda change: change.connection.execute("INSERT INTO state VALUES (1, 'td', 'dc1', 1)"))
    made.close()

    async def run():
        def fail(_change):
            raise sqlite3.OperationalError("database or disk is full")

        with pytest.raises(StorageFailed):
            await store.write(fail)
        await store.write(lambda _change: None)
        before = lines(capsys)
        await store.write(lambda change: change.touched.add("x"))
        await store.close()
        return before

    store = Store(tmp_path / "catalog.db")
    before = asyncio.run(run())
    assert [["catalog_storage_failed" in line for line in told] for told in (before, lines(capsys))] == [[True], [False]]


@pytest.mark.parametrize(("name", "broken"), [("SQLITE_CORRUPT_INDEX", True), ("SQLITE_NOTADB", True), ("SQLITE_IOERR_FSYNC", True), ("SQLITE_FULL", False)])
def test_some_failures_end_all_writing(name, broken):
    failures = Failures(Clock())
    failures.note(failure(name))
    failures.end()
    assert failures.broken == (f"the disk failed ({name})" if broken else "")


def test_what_did_not_come_from_the_database_has_no_name():
    assert name_of(StorageFailed("x")) == ""
