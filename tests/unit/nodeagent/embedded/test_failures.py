"""A failing disk is told of once in a while, however often it fails, and what it holds is not trusted after some failures."""

import sqlite3

import pytest

from nodeagent import limits
from nodeagent.embedded.failures import Failures, name_of
from nodeagent.embedded.refusal import StorageFailed


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


def test_that_it_is_well_again_is_told_and_the_next_failure_too(capsys):
    failures = Failures(Clock())
    failures.end()
    assert lines(capsys) == []
    failures.note(failure())
    failures.end()
    failures.note(failure())
    assert ["catalog_storage_failed" in line for line in lines(capsys)] == [True, False, True]


@pytest.mark.parametrize(("name", "broken"), [("SQLITE_CORRUPT_INDEX", True), ("SQLITE_NOTADB", True), ("SQLITE_IOERR_FSYNC", True), ("SQLITE_FULL", False)])
def test_some_failures_end_all_writing(name, broken):
    failures = Failures(Clock())
    failures.note(failure(name))
    failures.end()
    assert failures.broken == (f"the disk failed ({name})" if broken else "")


def test_what_did_not_come_from_the_database_has_no_name():
    assert name_of(StorageFailed("x")) == ""
