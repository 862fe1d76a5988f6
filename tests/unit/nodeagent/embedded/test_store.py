"""The store: writes wake watchers once they are durable, and a broken disk makes it read-only."""

import asyncio
import sqlite3

import pytest

from nodeagent.embedded.database import newest_index, open_database
from nodeagent.embedded.refusal import StorageFailed
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
