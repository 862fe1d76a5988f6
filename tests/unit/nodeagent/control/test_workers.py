"""Control's side of the workers, against far ends on real sockets."""

import asyncio
import io
import json
import os
import socket
from typing import Self

import pytest
import structlog

from nodeagent import limits
from nodeagent.catalog.diff import diff
from nodeagent.control.workers import Workers
from nodeagent.model.identity import KeyRing
from nodeagent.observe.log import configure_log
from nodeagent.observe.metrics import Metrics
from nodeagent.wire.frames import (
    CaptureFrame,
    DeltaFrame,
    EjectionRow,
    HostRead,
    KeysFrame,
    PartRow,
    Records,
    Shared,
    SnapshotFrame,
    WantHost,
    WantSvid,
)
from tests.support.far_ends import FarEnd, hand_over, ring_of, snapshot_of, worker, worker_stats
from tests.support.loop import run, until
from tests.support.mesh import mesh
from tests.support.rows import denied, row

RING = KeyRing("test.consul", "PEM", ())


class Scene:
    """Workers that accept from a handover socket."""

    def __init__(self) -> None:
        self.wanted: list[str] = []
        self.records: list[Records] = []
        self.metrics = Metrics("1")
        self.workers = Workers(self.metrics, want_svid=self.wanted.append, on_records=self.records.append)
        self.supervisor, self.handover = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.workers.accept(self.handover))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.supervisor.close()
        await self.task
        self.handover.close()
        self.workers.close()
        await until(lambda: not self.workers.links, "all links are gone")

    async def join(self, end: FarEnd, number: int = 0, pid: int = 4001) -> None:
        known = len(self.workers.links)
        hand_over(self.supervisor, number, pid, end)
        await until(lambda: len(self.workers.links) > known, "the worker is adopted")


@pytest.fixture
def log():
    stream = io.BytesIO()
    configure_log("control", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


def test_a_new_worker_gets_keys_and_snapshot_and_then_only_what_changes() -> None:
    async def scene() -> None:
        with worker() as end:
            async with Scene() as playing:
                first, second = mesh(generation=1), mesh("shop -> web allow", generation=2)
                playing.workers.publish(first, None)
                playing.workers.publish_keys(RING)
                await playing.join(end)
                playing.workers.publish(second, diff(first, second))
                await until(lambda: len(end.messages) == 3, "three frames")
                assert [type(m) for m in end.messages] == [KeysFrame, SnapshotFrame, DeltaFrame]
                got = snapshot_of(end)
                assert got is not None
                assert (got.generation, got.services["web"]) == (2, second.services["web"])
                assert ring_of(end) == RING

    run(scene)


def test_a_worker_that_came_before_the_first_snapshot_gets_it_whole() -> None:
    async def scene() -> None:
        with worker() as end:
            async with Scene() as playing:
                await playing.join(end)
                first, second = mesh(generation=1), mesh("shop -> web allow", generation=2)
                playing.workers.publish(first, None)
                playing.workers.publish(second, diff(first, second))
                await until(lambda: len(end.messages) == 2, "two frames")
                assert [type(m) for m in end.messages] == [SnapshotFrame, DeltaFrame]

    run(scene)


def test_what_workers_report_is_passed_on() -> None:
    async def scene() -> None:
        with worker() as end:
            async with Scene() as playing:
                await playing.join(end)
                end.send(Records([row(1), denied(2)], dropped=3))
                await until(lambda: playing.records, "the records")
                assert playing.records == [Records([row(1), denied(2)], dropped=3)]

    run(scene)


def test_open_connections_are_asked_of_every_worker() -> None:
    async def scene() -> None:
        with worker([row(1, closed_at=0.0)]) as one, worker([row(2), row(3)]) as two:
            async with Scene() as playing:
                await playing.join(one, 0, 1)
                await playing.join(two, 1, 2)
                rows, total, unanswered = await playing.workers.open_connections(1)
                assert (sorted(r.id for r in rows), total, unanswered) == (["0-1", "0-2"], 3, 0)

    run(scene)


def test_a_worker_that_does_not_answer_is_counted_and_not_waited_for(monkeypatch) -> None:
    from nodeagent import limits

    monkeypatch.setattr(limits, "API_ASK_S", 0.05)

    async def scene() -> None:
        with FarEnd() as mute, worker([row(2)]) as two:
            async with Scene() as playing:
                await playing.join(mute, 0, 1)
                await playing.join(two, 1, 2)
                rows, _, unanswered = await playing.workers.open_connections(10)
                assert ([r.id for r in rows], unanswered) == (["0-2"], 1)

    run(scene)


def test_two_who_ask_at_the_same_time_both_get_their_answer() -> None:
    async def scene() -> None:
        with worker([row(1, closed_at=0.0)]) as end:
            async with Scene() as playing:
                await playing.join(end)
                both = await asyncio.gather(*(playing.workers.open_connections(9) for _ in range(2)))
                assert [(len(rows), unanswered) for rows, _, unanswered in both] == [(1, 0), (1, 0)]
                assert playing.workers.links[0].asked == {}

    run(scene)


def test_a_worker_that_dies_while_it_is_adopted_leaves_no_link() -> None:
    async def scene() -> None:
        async with Scene() as playing:
            ours, theirs = socket.socketpair()
            adopting = playing.workers.adopt(1, 4001, theirs)
            ready = adopting.send(None)  # driven by hand: it goes on when the worker is long gone
            ours.close()
            await until(lambda: theirs.fileno() == -1 and ready.done(), "the end of the channel")
            with pytest.raises(StopIteration):
                adopting.send(None)
            assert playing.workers.links == []

    run(scene)


def test_a_descriptor_that_is_no_stream_is_refused_and_stops_nothing(log) -> None:
    async def scene() -> None:
        with worker() as end:
            async with Scene() as playing:
                odd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                await playing.workers.adopt(1, 4001, odd)
                assert (playing.workers.links, odd.fileno()) == ([], -1)
                await playing.join(end)

    run(scene)
    assert [line["worker"] for line in log() if line["event"] == "handover_refused"] == [1]


def test_figures_and_wishes_reach_those_who_care() -> None:
    async def scene() -> None:
        with worker() as end:
            async with Scene() as playing:
                await playing.join(end)
                end.send(worker_stats(connections=7))
                end.send(WantSvid("shop"))
                await until(lambda: playing.wanted == ["shop"], "the wish")
                stats = playing.workers.links[0].stats
                assert stats is not None
                assert stats.connections == 7

    run(scene)


def test_who_asks_for_a_port_of_a_host_is_answered_after_what_follows_from_it() -> None:
    """And at once where nobody reads ahead; a worker that is gone is not told."""

    async def scene() -> None:
        with worker() as end:
            async with Scene() as playing:
                await playing.join(end)
                end.send(WantHost("host2", 80))
                await until(lambda: end.messages == [HostRead("host2", 80)], "the answer")
                answers = []
                playing.workers.on_want_host = lambda host, port, answer: answers.append((host, port, answer))
                end.send(WantHost("host3", 81))
                await until(lambda: answers, "the question")
                playing.workers.publish(mesh(), None)
                ((host, port, answer),) = answers
                answer()
                await until(lambda: len(end.messages) == 3, "the answer")
                assert [type(each) for each in end.messages[1:]] == [SnapshotFrame, HostRead]
                assert end.messages[2] == HostRead(host, port) == HostRead("host3", 81)
            answer()

    run(scene)


def test_a_worker_that_sends_what_is_not_its_to_send_is_cut() -> None:
    async def scene() -> None:
        with worker() as end:
            async with Scene() as playing:
                await playing.join(end)
                end.send(CaptureFrame(["10.0.0.1"], []))
                await until(lambda: not playing.workers.links, "the cut")

    run(scene)


def test_a_worker_that_does_not_read_is_cut_and_reported() -> None:
    async def scene() -> None:
        async with Scene() as playing:
            ours, theirs = socket.socketpair()
            await playing.workers.adopt(3, 4003, theirs)
            for _ in range(40):
                playing.workers.publish_keys(KeyRing("test.consul", "x" * (1 << 20)))
            await until(lambda: playing.workers.cut, "the report")
            assert "worker 3 (pid 4003) was cut off: it has not read" in playing.workers.cut
            ours.close()

    run(scene)


def test_connections_that_died_with_their_worker_are_told_once(log) -> None:
    """By its last figures, when the supervisor says that it is gone: one that comes back with another channel has lost none."""

    async def scene() -> None:
        with worker() as dies, worker() as returns, worker() as again, worker() as idle:
            async with Scene() as playing:
                for number, end in enumerate((dies, returns, idle)):
                    await playing.join(end, number, 4000 + number)
                    end.send(worker_stats(connections=7 if end is not idle else 0))
                await until(lambda: all(link.stats for link in playing.workers.links), "figures")
                for end in (dies, returns, idle):
                    end.sock.shutdown(socket.SHUT_RDWR)
                await until(lambda: not playing.workers.links, "they are lost")
                playing.workers.note_living({4000, 4001})
                await playing.join(again, 1, 4001)
                for _ in range(2):
                    playing.workers.note_living({4001})
                playing.workers.note_living(())
                assert b"nodeagent_connections_lost_total 7.0" in playing.metrics.render()

    run(scene)
    lost = [(line["worker"], line["number"]) for line in log() if line["event"] == "connections_lost"]
    assert lost == [(0, 7)]


def test_a_malformed_handover_is_refused_and_its_descriptor_closed() -> None:
    async def scene() -> None:
        with worker() as end:
            async with Scene() as playing:
                read, write = os.pipe()
                socket.send_fds(playing.supervisor, [b"xx"], [write])
                os.close(write)
                await playing.join(end)
                assert os.read(read, 1) == b""
                os.close(read)

    run(scene)


def test_a_worker_that_sends_more_than_its_rows_can_be_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control's memory is not a worker's to fill."""
    monkeypatch.setattr(limits, "WORKER_FRAME_BYTES", 1000)

    async def scene() -> None:
        with worker() as end:
            async with Scene() as playing:
                await playing.join(end)
                end.send(Records([row(error="x" * 1001)]))
                await until(lambda: not playing.workers.links, "it is cut")

    run(scene)


def test_what_workers_share_is_told_to_those_that_know_it() -> None:
    """An older one would be lost by a message that it does not know; so it is told nothing."""
    gone = EjectionRow("shop", "web", "", "h1/web", 30.0, 1)

    async def scene() -> None:
        with worker() as one, worker() as two, worker() as older:
            async with Scene() as playing:
                playing.workers.publish(mesh(generation=1), None)
                for number, end in enumerate((one, two, older)):
                    await playing.join(end, number, 4001 + number)
                await until(lambda: all(end.messages for end in (one, two, older)), "snapshots")
                assert all(end.messages[-1].shares for end in (one, two, older))
                one.send(Shared())
                two.send(Shared())
                await until(lambda: sum(link.shares for link in playing.workers.links) == 2, "two that share")
                one.send(Shared([gone], [PartRow("shop", "web", "", "requests", 8, 0, 2)]))
                await until(lambda: len(one.messages) == 2 and len(two.messages) == 2, "what each is to know")
                assert two.messages[-1] == Shared([gone])
                assert one.messages[-1] == Shared([], [PartRow("shop", "web", "", "requests", 8, 8, 0, 1)])
                assert len(older.messages) == 1
                two.send(Shared([], [PartRow("shop", "web", "", "requests", 8, 0, 2)]))
                await until(lambda: len(one.messages) == 3, "less")
                one.sock.shutdown(socket.SHUT_RDWR)
                await until(lambda: two.messages[-1].parts, "what the other had")
                assert two.messages[-1].parts[0].held == 8

    run(scene)
