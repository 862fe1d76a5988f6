"""The store: writes wake watchers once they are durable, and a broken disk makes it read-only."""

import asyncio
import sqlite3

import pytest

from nodeagent import limits
from nodeagent.embedded.database import commit, newest_index, open_database
from nodeagent.embedded.refusal import StorageFailed
from nodeagent.embedded.tokens import delete_token
from nodeagent.embedded.values import put_value, read_value


def test_a_write_is_read_at_once_and_wakes_its_watchers(desk):
    async def run():
        with desk.store.watchers.waiting(["kv:a"]) as woken:
            await desk.store.write(lambda change: put_value(change, "a", b"1", 0))
            assert woken.done()
        return desk.store.read(lambda connection: read_value(connection, "a")).value

    assert asyncio.run(run()) == b"1"


def test_a_caller_that_goes_away_stops_neither_write_nor_waking(desk):
    async def run():
        entered, go = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(change):
            loop.call_soon_threadsafe(entered.set)
            asyncio.run_coroutine_threadsafe(go.wait(), loop).result()
            return put_value(change, "a", b"1", 0)

        with desk.store.watchers.waiting(["kv:a"]) as woken:
            caller = asyncio.ensure_future(desk.store.write(slow))
            await entered.wait()
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            go.set()
            await woken

    asyncio.run(run())


def test_writers_from_another_process_are_seen_at_once(desk):
    other = open_database(desk.directory / "catalog.db")
    before = desk.store.read(newest_index)
    other.execute("UPDATE state SET idx = idx + 7")
    other.close()
    assert desk.store.read(newest_index) == before + 7


def failing(name):
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = name

    def write(_change):
        raise error

    return write


def test_after_a_failed_fsync_nothing_more_is_written(desk):
    """What the file holds is unknown then: the kernel may have dropped the page and called it clean."""

    async def run():
        with pytest.raises(StorageFailed, match="SQLITE_IOERR_FSYNC"):
            await desk.store.write(failing("SQLITE_IOERR_FSYNC"))
        with pytest.raises(StorageFailed, match="only answers reads until it is restarted"):
            await desk.store.write(lambda change: put_value(change, "a", b"1", 0))
        assert desk.store.read(newest_index) > 0

    asyncio.run(run())


def test_a_full_disk_is_tried_again(desk):
    async def run():
        with pytest.raises(StorageFailed, match="full"):
            await desk.store.write(failing("SQLITE_FULL"))
        return await desk.store.write(lambda change: put_value(change, "a", b"1", 0))

    assert asyncio.run(run()) is True


def test_what_another_process_writes_wakes_watchers_and_our_own_writes_wake_nobody_twice(desk, monkeypatch):
    """A token that the command line revokes is heard by agents that wait."""
    monkeypatch.setattr(limits, "CATALOG_OTHERS_S", 0.01)
    other = open_database(desk.directory / "catalog.db")

    async def run():
        hearing = asyncio.create_task(desk.store.hear_others())
        try:
            with desk.store.watchers.waiting(["nodes"]) as deaf, desk.store.watchers.waiting(["roots"]) as woken:
                for number in range(3):
                    await desk.store.write(lambda change, n=number: put_value(change, f"c{n}", b"1", 0))
                    await asyncio.sleep(0.03)
                assert not woken.done()
                commit(other, lambda change: delete_token(change, "one", 0.0))
                await asyncio.wait_for(woken, 20)
                assert not deaf.done()
        finally:
            hearing.cancel()

    asyncio.run(run())
    other.close()


def test_a_disk_that_cannot_be_read_for_a_while_ends_no_hearing(desk, monkeypatch):
    monkeypatch.setattr(limits, "CATALOG_OTHERS_S", 0.01)
    other = open_database(desk.directory / "catalog.db")
    read, failures = desk.store.read, []

    def broken(ask):
        if len(failures) < 3:
            failures.append(ask)
            raise StorageFailed("the disk failed")
        return read(ask)

    monkeypatch.setattr(desk.store, "read", broken)

    async def run():
        hearing = asyncio.create_task(desk.store.hear_others())
        try:
            with desk.store.watchers.waiting(["roots"]) as woken:
                commit(other, lambda change: delete_token(change, "one", 0.0))
                await asyncio.wait_for(woken, 20)
        finally:
            hearing.cancel()

    asyncio.run(run())
    assert len(failures) == 3
    other.close()


def test_what_a_read_finds_damaged_ends_all_writing(desk):
    """What the rest of the file holds is unknown, too."""

    async def run():
        with pytest.raises(StorageFailed, match=r"SQLITE_CORRUPT.*move its directory away"):
            desk.store.read(failing("SQLITE_CORRUPT"))
        with pytest.raises(StorageFailed, match="only answers reads until it is restarted"):
            await desk.store.write(lambda change: put_value(change, "a", b"1", 0))

    asyncio.run(run())
