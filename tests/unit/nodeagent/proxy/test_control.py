"""The worker's end of the channel to control."""

import asyncio
import dataclasses
import errno
import os
import socket

import pytest

from nodeagent import limits
from nodeagent.catalog.codec import encode_delta, encode_snapshot
from nodeagent.catalog.diff import diff
from nodeagent.decide.chain import Target
from nodeagent.errors import NoSvid
from nodeagent.model.address import Address
from nodeagent.model.outcome import ConnectionRow
from nodeagent.proxy.ends import TcpEnd
from nodeagent.wire.frames import (
    AskConnections,
    Connections,
    DeltaFrame,
    FrameReader,
    HostRead,
    Message,
    PartRow,
    Records,
    Shared,
    SnapshotFrame,
    SvidRefusal,
    WantHost,
    WantSvid,
    WorkerStats,
)
from tests.support.far_control import Far, until, with_channel
from tests.support.mesh import mesh


def test_a_snapshot_and_the_deltas_after_it_are_followed() -> None:
    """In order; the worker's figures tell the generation."""

    async def work(far: Far) -> None:
        first, second = mesh("shop -> web allow"), mesh("shop -> web deny", generation=2)
        far.send(SnapshotFrame(encode_snapshot(first)))
        far.send(DeltaFrame(encode_delta(diff(first, second))))
        await until(lambda: far.live.generation == 2)
        assert far.live.snapshot.services["web"].intentions[0].action == "deny"
        while (await far.next(WorkerStats)).generation != 2:
            pass

    with_channel(work)


def test_the_last_words_are_what_is_left_and_that_nothing_is_open() -> None:
    """A worker that ends well is not counted among those that died: it does not wait for the next second."""

    async def work(far: Far) -> None:
        await far.next(WorkerStats)
        far.live.records.append(ConnectionRow(id="1-1", direction="outbound", client="", original_dst="", opened_at=1.0))
        await far.channel.last_words()
        assert [row.id for row in (await far.next(Records)).rows] == ["1-1"]
        assert (await far.next(WorkerStats)).connections == 0

    with_channel(work)


def test_the_last_words_wait_for_a_control_that_is_busy() -> None:
    """All that is left comes to it: more than a socket holds."""

    async def work(far: Far) -> None:
        await far.next(WorkerStats)
        fill(far, 10_000)
        words = asyncio.create_task(far.channel.last_words())
        heard = 0
        while heard < 10_000:
            heard += len((await far.next(Records)).rows)
        assert (await far.next(WorkerStats)).connections == 0
        await words
        assert heard == 10_000

    with_channel(work)


def test_rows_that_control_never_read_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """And whoever reads nothing is not waited for for ever."""
    monkeypatch.setattr(limits, "FAREWELL_S", 0.1)

    async def work(far: Far) -> None:
        fill(far, 10_000)
        await far.channel.last_words()
        left = len(far.live.records)
        lost = far.channel._rows_unsent
        assert left
        assert 0 < lost <= limits.RECORDS_PER_BATCH
        far.sock.close()
        await until(lambda: far.channel._sock is None)
        records = far.live.records.take()
        assert records
        assert records.dropped == lost

    with_channel(work)


def fill(far: Far, rows: int) -> None:
    """So many connections have ended."""
    for number in range(rows):
        far.live.records.append(ConnectionRow(id=f"1-{number}", direction="outbound", client="", original_dst="", opened_at=1.0))


@pytest.mark.parametrize(
    "bad",
    [
        DeltaFrame(encode_delta(diff(mesh(generation=5), mesh("shop -> web allow", generation=6)))),
        DeltaFrame(b"no delta"),
        SnapshotFrame(b"no snapshot"),
    ],
)
def test_what_cannot_be_followed_asks_for_a_fresh_channel(bad: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old snapshot stays in force, and the worker does not stay behind for ever."""
    monkeypatch.setattr(limits, "RENEW_S", 0.01)

    async def work(far: Far) -> None:
        asked = asyncio.Event()
        far.channel.on_detached = asked.set
        far.send(SnapshotFrame(encode_snapshot(mesh(generation=1))))
        far.send(bad)
        await asked.wait()
        assert far.live.generation == 1
        far.sock.close()
        far.reader = FrameReader()
        far.open()
        far.send(SnapshotFrame(encode_snapshot(mesh(generation=7))))
        await until(lambda: far.live.generation == 7)

    with_channel(work)


def test_records_go_out_in_batches() -> None:
    """All of them, in order."""

    async def work(far: Far) -> None:
        for number in range(1200):
            far.live.records.append(ConnectionRow(id=str(number), direction="outbound", client="", original_dst="", opened_at=0))
        got: list[str] = []
        sizes: list[int] = []
        while len(got) < 1200:
            records: Records = await far.next(Records)
            got += [row.id for row in records.rows]
            sizes.append(len(records.rows))
        assert max(sizes) == limits.RECORDS_PER_BATCH
        assert got == [str(number) for number in range(1200)]

    with_channel(work)


def test_garbage_closes_the_channel_and_a_new_one_is_taken() -> None:
    """Control may be started anew at any time; the worker keeps its snapshot."""

    async def work(far: Far) -> None:
        far.send(SnapshotFrame(encode_snapshot(mesh(generation=3))))
        await until(lambda: far.live.generation == 3)
        far.sock.sendall(b"\xff" * 64)
        await until(lambda: far.channel._sock is None)
        far.sock.close()
        far.reader = FrameReader()
        far.open()
        far.send(AskConnections(9, 10))
        assert (await far.next(Connections)).number == 9
        assert far.live.generation == 3

    with_channel(work)


def test_one_connection_is_told_by_its_id() -> None:
    """However many others there are, and however few are wanted: it may be the oldest."""

    async def work(far: Far) -> None:
        client = Address("10.0.0.1", 1)
        ids = [far.live.open(TcpEnd(), "outbound", client, "10.0.0.2:80").row.id for _ in range(3)]
        for question, (id_, found) in enumerate([("", ids[-1:]), (ids[0], ids[:1]), ("b1-99", [])]):
            far.send(AskConnections(question, 1, id_))
            answer = await far.next(Connections)
            assert ([row.id for row in answer.rows], answer.total) == (found, 3)

    with_channel(work)


def test_an_unanswered_question_for_a_certificate_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control may have been away when it was asked first."""
    monkeypatch.setattr(limits, "SVID_ASK_S", 0.01)

    async def work(far: Far) -> None:
        waiting = asyncio.create_task(far.channel.ensure_svid("shop"))
        for _ in range(3):
            assert (await far.next(WantSvid)).service == "shop"
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    with_channel(work)


def test_a_missing_certificate_is_asked_for_once() -> None:
    """However many callers wait for it."""

    async def work(far: Far) -> None:
        waiting = [asyncio.create_task(far.channel.ensure_svid("shop")) for _ in range(5)]
        assert (await far.next(WantSvid)).service == "shop"
        await far.next(WorkerStats)
        assert not [message for message in far.seen if isinstance(message, WantSvid)]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert far.channel._waiting == {}

    with_channel(work)


def test_who_waits_for_a_certificate_that_there_is_not_is_told_at_once() -> None:
    """With control's reason; the next call asks anew."""

    async def work(far: Far) -> None:
        for _ in range(2):
            waiting = [asyncio.create_task(far.channel.ensure_svid("shop")) for _ in range(3)]
            assert (await far.next(WantSvid)).service == "shop"
            far.send(SvidRefusal("cart", "another"))
            far.send(SvidRefusal("shop", "the CA is away"))
            errors = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(error) for error in errors} == {NoSvid}
            assert "the CA is away" in str(errors[0])
        assert far.channel._waiting == {}

    with_channel(work)


def test_who_calls_a_port_where_nobody_is_known_goes_on_when_control_has_answered() -> None:
    """By what came before the answer; and where control has gone, at once."""

    async def work(far: Far) -> None:
        far.send(SnapshotFrame(encode_snapshot(mesh())))
        await until(lambda: far.channel._followed is far.channel._sock)
        call = asyncio.create_task(far.live.first_use.ask("host2", 9001))
        asked = await far.next(WantHost)
        assert (asked.host, asked.wanted) == ("host2", 9001)
        far.send(SnapshotFrame(encode_snapshot(mesh(generation=7))))
        far.send(HostRead("host2", 9001))
        await call
        assert far.live.generation == 7
        call = asyncio.create_task(far.live.first_use.ask("host2", 9002))
        await far.next(WantHost)
        far.sock.close()
        await call
        await far.live.first_use.ask("host2", 9003)

    with_channel(work)


def test_a_control_is_not_asked_before_its_own_snapshot_has_come() -> None:
    """It may be older than the one before, and know no such question."""

    async def work(far: Far) -> None:
        far.send(SnapshotFrame(encode_snapshot(mesh())))
        await until(lambda: far.live.first_use.send(WantHost("host2", 9001)))
        before = far.sock
        far.open()
        assert not far.live.first_use.send(WantHost("host2", 9002))
        far.send(SnapshotFrame(encode_snapshot(mesh(generation=2))))
        await until(lambda: far.channel._followed is far.channel._sock)
        assert far.live.first_use.send(WantHost("host2", 9003))
        assert await far.next(WantHost) == WantHost("host2", 9003)
        before.close()

    with_channel(work)


class Starved(socket.socket):
    """The kernel has no memory for what is sent."""

    def send(self, *_: object) -> int:
        raise OSError(errno.ENOBUFS, "No buffer space available")


def test_what_ends_the_channel_is_not_on_its_way() -> None:
    """Whoever waits for an answer to it would wait for nothing."""

    async def work(far: Far) -> None:
        ours, theirs = socket.socketpair()
        far.channel.attach(Starved(fileno=ours.detach()))
        assert not far.channel._send(WantSvid("web"))
        assert theirs.recv(1) == b"", "it is closed"
        theirs.close()

    with_channel(work)


def say_last_words(far: Far) -> None:
    """A permit, its end, and control's own end."""
    first, second = mesh("shop -> web allow"), mesh("shop -> web deny", generation=2)
    far.send(SnapshotFrame(encode_snapshot(first)))
    far.send(DeltaFrame(encode_delta(diff(first, second))))
    far.sock.close()


def test_the_last_words_of_a_dying_control_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its successor has a catalog to hear and a mesh to compile first; a permit that has ended must not last as long."""
    monkeypatch.setattr(limits, "DECODE_ROWS", 1)  # the end of the channel is seen while the snapshot is being decoded

    async def work(far: Far) -> None:
        say_last_words(far)
        await until(lambda: far.channel._sock is None and far.channel._inbox.empty())
        await until(lambda: far.live.generation > 0)
        await asyncio.sleep(0)
        assert far.live.generation == 2
        assert far.live.snapshot.services["web"].intentions[0].action == "deny"

    with_channel(work)


def test_a_worker_that_talks_to_a_dead_control_hears_its_last_words_all_the_same() -> None:
    """Its own figures may be due before it has looked at what came."""

    async def work(far: Far) -> None:
        say_last_words(far)
        far.channel._send_stats()
        await until(lambda: far.channel._sock is None)
        await until(lambda: far.live.generation > 0)
        assert far.live.generation == 2

    with_channel(work)


def test_a_new_channel_survives_what_goes_wrong_with_the_old_one_s_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is decoded in steps, and the new channel comes in between."""
    monkeypatch.setattr(limits, "DECODE_ROWS", 1)
    monkeypatch.setattr(limits, "RENEW_S", 3600.0)

    async def work(far: Far) -> None:
        await asyncio.sleep(0)
        far.send(SnapshotFrame(encode_snapshot(dataclasses.replace(mesh(generation=3), hosts={}))))
        far.channel._read()
        await until(far.channel._inbox.empty)
        old = far.sock
        far.open()
        far.reader, fresh = FrameReader(), far.channel._sock
        far.send(SnapshotFrame(encode_snapshot(mesh(generation=7))))
        await until(lambda: far.live.generation == 7 or far.channel._sock is None)
        assert far.channel._sock is fresh
        old.close()

    with_channel(work)


def test_a_control_that_does_not_read_costs_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has not read is kept up to a bound; what comes beyond is not said."""
    monkeypatch.setattr(limits, "CHANNEL_BACKLOG_BYTES", 100_000)

    async def work(far: Far) -> None:
        for _ in range(1000):
            far.channel._send(WantSvid("x" * 1000))
        assert 100_000 < len(far.channel._unsent) < 102_000

    with_channel(work)


def test_what_workers_share_goes_to_a_control_that_knows_it() -> None:
    """An older one would close the channel at a message that it does not know."""

    async def work(far: Far) -> None:
        far.send(SnapshotFrame(encode_snapshot(mesh())))
        await until(lambda: far.live.generation > 0)
        await far.next(WorkerStats)
        assert not [message for message in far.seen if isinstance(message, Shared)]
        far.sock.close()
        far.open()
        far.send(SnapshotFrame(encode_snapshot(mesh()), shares=True))
        assert await far.next(Shared) == Shared()
        far.send(Shared([], [PartRow("shop", "web", "", "requests", limits.BREAKER_CALLS, 7, 0, 1)]))
        gauge = far.live.http.router.dispatch.gauge(far.live.snapshot, ("shop", Target("web")))
        await until(lambda: gauge.serial == 1)
        far.channel._detach()
        assert gauge.share == limits.BREAKER_CALLS // min(os.cpu_count() or 1, limits.WORKERS_USUAL)

    with_channel(work)
