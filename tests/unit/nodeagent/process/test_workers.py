"""A real fleet of workers, which have no listeners here."""

import asyncio
import errno
import os
import signal
import socket
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.config import parse_config
from nodeagent.process import worker_process
from nodeagent.process.heartbeat import Heartbeat
from nodeagent.process.listeners import ListenerSet, ListenerSocket
from nodeagent.process.orders import Spawned, SpawnerSetup
from nodeagent.process.slot import Slot
from nodeagent.process.worker_process import State, WorkerProcess
from nodeagent.process.workers import Fleet, FleetCalls
from nodeagent.wire.requests import RENEW, OwnerAnswer, encode_beat
from tests.support.held import held
from tests.support.loop import run, until

CONFIG = parse_config('[host]\nname = "h"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "https://c:8501"\n', "test")

EMPTY = ListenerSet("listeners-0", ())


class Scene:
    """A fleet of two. Owned by one test."""

    def __init__(self, *, start: bool = True) -> None:
        self.handed_over: list[tuple[int, int]] = []
        self.is_policy_awaited = False
        calls = FleetCalls(
            find_owner=lambda question, tell: tell(OwnerAnswer(question.number, -1, "")),
            marks=lambda: {limits.UNIT_MARK_BASE | 1: "shop.service"},
            hand_over=self._hand_over,
            wall_clock=lambda: 1_700_000_000.0,
            is_policy_awaited=lambda: self.is_policy_awaited,
        )
        self.fleet = Fleet(asyncio.get_running_loop(), (), SpawnerSetup(CONFIG, 64902, 64902, "b"), dict(os.environ), calls)
        if start:
            self.fleet.start([Slot([EMPTY]), Slot([EMPTY])])

    def _hand_over(self, worker: WorkerProcess) -> None:
        self.handed_over.append((worker.number, worker.pid))

    def pids(self) -> list[int]:
        """Of both slots."""
        return [slot.worker.pid if slot.worker else 0 for slot in self.fleet.slots]

    def has_spare(self) -> bool:
        """Whether a worker waits for a slot."""
        return [worker.state for worker in self.fleet._idle] == [State.STANDBY] * limits.SPARES


def play(script: Any) -> None:
    """Runs `script(scene)` once all workers serve; afterwards none is left."""

    async def whole() -> None:
        scene = Scene()
        try:
            await until(lambda: scene.fleet.are_all_serving() and scene.has_spare(), "all serve, and one waits")
            await script(scene)
        finally:
            await scene.fleet.drain(20, asyncio.Event())
        assert scene.fleet.living() == []

    run(whole)


def test_each_slot_gets_a_worker_that_is_handed_to_control_and_one_waits() -> None:
    """And all are shown in `status`."""

    async def script(scene: Scene) -> None:
        facts = scene.fleet.facts()
        assert [(f.number, f.restarts, f.started_at) for f in facts] == [(n, 0, 1_700_000_000.0) for n in range(3)]
        assert sorted(f.state for f in facts) == ["serving", "serving", "standby"]
        assert sorted(scene.handed_over) == [(f.number, f.pid) for f in facts]

    play(script)


def test_a_worker_that_is_killed_is_replaced_by_the_spare_and_the_other_is_not_touched() -> None:
    """Another spare is born, and handed to control, too."""

    async def script(scene: Scene) -> None:
        before, spare = scene.pids(), scene.fleet._idle[0].pid
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: scene.pids()[0] not in (0, before[0]) and scene.fleet.are_all_serving(), "a successor")
        assert scene.pids() == [spare, before[1]]
        assert [f.restarts for f in scene.fleet.facts() if f.pid == spare] == [1]
        await until(scene.has_spare, "another spare")
        assert len(scene.handed_over) == 4

    play(script)


def test_a_spare_takes_a_place_at_once_however_often_somebody_died_there_and_births_become_rare() -> None:
    """One that ends there again and again costs one birth each time; once no spare is left the others get the share. Their own ends are no part of it."""

    async def script(scene: Scene) -> None:
        fleet, loop = scene.fleet, asyncio.get_running_loop()
        slot, other = fleet.slots
        assert slot.worker
        assert other.worker
        slot.exits = (loop.time(),) * limits.RESTARTS_REMEMBERED
        spare = fleet._idle[0]
        os.kill(slot.worker.pid, signal.SIGKILL)
        await until(lambda: slot.worker is spare and fleet.are_all_serving(), "it serves there")
        assert slot.due_at - loop.time() > limits.VACANT_S
        assert fleet._idle == []
        os.kill(spare.pid, signal.SIGKILL)
        await until(lambda: not slot.sets, "its share is the others'")
        assert (slot.worker, fleet._idle) == (None, [])
        killed = other.worker
        os.kill(killed.pid, signal.SIGKILL)
        await until(lambda: other.worker not in (None, killed) and other.is_served, "a birth for the other")
        assert other.sets == [EMPTY]
        assert (slot.worker, fleet._idle) == (None, [])
        assert slot.due_at > loop.time()

    play(script)


def test_who_the_kernel_holds_is_replaced_and_holds_up_neither_beat_nor_reload() -> None:
    """The others are alive, says the heartbeat, once its place is another's; it ends when the kernel lets go."""
    beats: list[list[int]] = []

    async def script(scene: Scene) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for worker in scene.fleet.living():
            worker.ping()
        await until(lambda: all(worker.answered_at >= began for worker in scene.fleet.living()), "the first answers")
        before, spare = scene.pids(), scene.fleet._idle[0].pid
        beating = asyncio.create_task(Heartbeat(loop, scene.fleet, lambda _: beats.append(scene.pids()), lambda: None).run())
        with held(before[0]), capture_logs() as log:
            os.kill(before[0], signal.SIGSTOP)
            await until(lambda: [spare, before[1]] in beats, "a beat of those who are left")
            told = [(line["event"], line["pid"]) for line in log if line["event"] in ("worker_hung", "process_left")]
            assert told == [("worker_hung", before[0]), ("process_left", before[0])]
            await until(scene.has_spare, "another spare")
            with held(scene.fleet._idle[0].pid):
                await scene.fleet.leave()
            os.kill(before[0], 0)
        scene.fleet.stay()
        beating.cancel()

    play(script)


def test_where_control_tells_no_policy_who_knows_none_takes_no_share_of_those_who_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would refuse it. The others get it; where none of them is left, somebody is better than nobody."""
    monkeypatch.setattr(limits, "RESUME_S", 0.0)
    forgotten: list[str] = []

    async def script(scene: Scene) -> None:
        scene.fleet._calls = replace(scene.fleet._calls, is_policy_told=lambda: False)
        scene.fleet._vacancies._forget = forgotten.append
        first, second = scene.fleet.serving()
        first.is_informed = True
        with socket.create_server(("127.0.0.1", 0)) as listener, listener.dup() as copy:
            scene.fleet.slots[1].sets = [ListenerSet("listeners-1", (ListenerSocket("outbound", 4, listener),))]
            os.kill(second.pid, signal.SIGKILL)
            await until(lambda: forgotten, "its sockets are closed")
            assert not copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), "the kernel sends nobody to one that is held, either"
        await until(lambda: [each.state for each in scene.fleet._idle] == [State.STANDBY] * 2, "one could serve, and one waits")
        scene.fleet._fill()
        assert scene.fleet.serving() == [first]
        assert [slot.worker for slot in scene.fleet.slots] == [first, None]
        scene.fleet._idle[0].is_informed = True
        scene.fleet._note_ready(scene.fleet._idle[0])
        await until(scene.fleet.are_all_serving, "who has heard policy takes the share")
        for worker in scene.fleet.serving():
            os.kill(worker.pid, signal.SIGKILL)
        await until(lambda: scene.fleet.are_all_serving() and not any(each.is_informed for each in scene.fleet.serving()), "all serve again")

    play(script)


def test_of_two_that_could_serve_the_one_that_knows_policy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """It need not be the elder. While it opens, its knowledge counts, too."""
    monkeypatch.setattr(limits, "RESUME_S", 0.0)
    monkeypatch.setattr(limits, "SPARES", 2)

    async def script(scene: Scene) -> None:
        await until(lambda: [each.state for each in scene.fleet._idle] == [State.STANDBY] * 2, "two spares")
        scene.fleet._calls = replace(scene.fleet._calls, is_policy_told=lambda: False)
        ignorant, informed = scene.fleet._idle
        informed.is_informed = True
        assert scene.fleet._try_candidate(scene.fleet.slots[0]) is informed
        with monkeypatch.context() as patch:
            patch.setattr(scene.fleet.slots[0], "worker", informed)
            patch.setattr(scene.fleet, "_idle", [ignorant])
            patch.setattr(informed, "state", State.OPENING)
            assert scene.fleet._try_candidate(scene.fleet.slots[1]) is None, "it would refuse what the other serves"

    play(script)


def test_nor_does_it_take_a_place_that_is_new_beside_one_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reload with more workers: who serves there knows policy, and has no successor yet."""
    monkeypatch.setattr(limits, "RESUME_S", 0.0)

    async def script(scene: Scene) -> None:
        old, new = scene.fleet.slots
        elder, spare = old.worker, scene.fleet._idle[0]
        assert elder
        elder.is_informed = True
        with monkeypatch.context() as patch:
            patch.setattr(old, "elders", [elder])
            patch.setattr(old, "worker", None)
            assert scene.fleet._try_candidate(new) is spare, "control tells it soon"
            scene.fleet._calls = replace(scene.fleet._calls, is_policy_told=lambda: False)
            assert scene.fleet._try_candidate(new) is None

    play(script)


def test_a_drained_fleet_starts_nobody() -> None:
    """Also when a worker dies in the drain; a second drain has nothing to do."""

    async def script(scene: Scene) -> None:
        await scene.fleet.drain(20, asyncio.Event())
        assert [facts.state for facts in scene.fleet.facts()] == [str(State.DEAD)] * 2
        assert scene.fleet.living() == []

    play(script)


def test_workers_that_do_not_end_are_cut() -> None:
    """At the end of their grace, or at once when told."""

    async def script(scene: Scene) -> None:
        for pid in scene.pids():
            os.kill(pid, signal.SIGSTOP)
        cut = asyncio.Event()
        cut.set()
        await scene.fleet.drain(1000, cut)
        assert scene.fleet.living() == []

    play(script)


def test_a_worker_that_lost_control_is_handed_over_again() -> None:
    """By the same way as at its birth."""

    async def script(scene: Scene) -> None:
        worker = scene.fleet.living()[0]
        worker._hear(encode_beat(RENEW))
        await until(lambda: len(scene.handed_over) == 4, "handed over")
        assert scene.handed_over[-1] == (worker.number, worker.pid)

    play(script)


def test_a_worker_that_cannot_be_made_or_ordered_now_is_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of descriptors: that passes."""
    make, failures = worker_process._new_channels, [OSError(errno.EMFILE, "Too many open files")] * 2

    def fail_first() -> Any:
        if failures:
            raise failures.pop()
        return make()

    async def script(scene: Scene) -> None:
        spare = scene.fleet._idle[0]
        monkeypatch.setattr(worker_process, "_new_channels", fail_first)
        order, orders = scene.fleet.spawner.order, []

        def refuse_first(*arguments: Any) -> bool:
            orders.append(arguments)
            return len(orders) > 1 and order(*arguments)

        monkeypatch.setattr(scene.fleet.spawner, "order", refuse_first)
        os.kill(spare.pid, signal.SIGKILL)
        await until(lambda: spare not in scene.fleet._idle and scene.has_spare(), "a successor")
        assert (failures, len(orders)) == ([], 2)
        assert scene.fleet.are_all_serving()

    play(script)


def test_those_who_wait_in_queues_are_not_given_to_somebody_who_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash, as long as the kernel's beat lasts; afterwards a refusal is better than silence."""
    monkeypatch.setattr(limits, "RESUME_S", 2 * limits.SNAPSHOT_WAIT_S)

    async def scene() -> None:
        resumed, loop = Scene(start=False), asyncio.get_running_loop()
        began = loop.time()
        resumed.fleet.start([Slot([EMPTY])], is_resumed=True)
        try:
            await until(resumed.fleet.are_all_serving, "it serves all the same")
            assert loop.time() - began >= limits.RESUME_S - 0.02
        finally:
            await resumed.fleet.drain(20, asyncio.Event())

    run(scene)
    assert limits.RESUME_S < limits.ALIVE_S


@pytest.mark.parametrize(("is_resumed", "expected"), [(True, ["beat"]), (False, [])])
def test_nor_while_policy_is_awaited_however_busy_the_host(
    monkeypatch: pytest.MonkeyPatch, *, is_resumed: bool, expected: list[str]
) -> None:
    """The kernel is told that the agent lives meanwhile; but at a first start no beat captures anybody before."""
    monkeypatch.setattr(limits, "RESUME_S", 0.0)

    async def scene() -> None:
        resumed, beats = Scene(start=False), list[str]()
        resumed.is_policy_awaited = True
        resumed.fleet.start([Slot([EMPTY])], is_resumed=is_resumed)
        try:
            await until(lambda: [each.state for each in resumed.fleet.living()] == [State.STANDBY] * 2, "both could serve")
            resumed.fleet._fill()
            heart = Heartbeat(asyncio.get_running_loop(), resumed.fleet, lambda _: beats.append("beat"), lambda: None)
            heart.tick()
            assert (resumed.fleet.slots[0].worker, beats) == (None, expected)
            resumed.is_policy_awaited = False
            heart.tick()
            assert beats == expected
            await until(resumed.fleet.are_all_serving, "it serves all the same")
        finally:
            await resumed.fleet.drain(20, asyncio.Event())

    run(scene)


def test_a_worker_without_a_channel_is_ended_and_not_passed_on() -> None:
    """Its channel would be descriptor -1, which ends the program that is to go on with it."""

    async def script(scene: Scene) -> None:
        mute, other = scene.fleet.serving()
        mute._channel.close()
        assert mute in scene.fleet.living()
        assert mute not in scene.fleet.staying()
        assert other in scene.fleet.staying()
        await until(lambda: mute.state == State.DEAD, "its end")

    play(script)


def test_a_report_of_a_worker_that_was_given_up_and_is_gone_is_no_error() -> None:
    """It died at birth, and the spawner has reaped it."""

    async def script() -> None:
        pid = os.fork()
        if not pid:
            os._exit(1)
        pidfd = os.pidfd_open(pid)
        os.waitpid(pid, 0)  # noqa: ASYNC222 - it has ended
        Scene(start=False).fleet._note_spawned(Spawned(7, 0, pid), pidfd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(pidfd)

    run(script)


def test_a_place_that_nobody_serves_leaves_also_while_a_successor_is_made_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is born then, and whatever hangs may hold that up."""
    monkeypatch.setattr(limits, "LEFT_S", 0.2)

    async def script(scene: Scene) -> None:
        fleet = scene.fleet
        await fleet.leave()
        assert fleet.slots[0].worker
        os.kill(fleet.slots[0].worker.pid, signal.SIGKILL)
        await until(lambda: not fleet.slots[0].sets, "it leaves the group")
        assert fleet.slots[1].sets == [EMPTY]
        fleet.stay()
        await until(fleet.are_all_serving, "all is as before")

    play(script)


def test_who_is_released_for_a_restart_accepts_no_more_and_its_sockets_are_kept() -> None:
    """For a successor's workers; nobody is born in its place, and it has as long as after a reload."""

    async def script(scene: Scene) -> None:
        fleet = scene.fleet
        forgotten: list[str] = []
        fleet._vacancies._forget = forgotten.append
        serving, now = fleet.serving(), asyncio.get_running_loop().time()
        await fleet.leave()
        fleet.release()
        assert [worker.state for worker in serving] == [State.DRAINING] * 2
        assert all(now + limits.DRAIN_MAX_S <= worker.drain_until for worker in serving)
        await until(lambda: fleet.living() == [], "they end, as they carry nothing")
        assert [slot.sets for slot in fleet.slots] == [[EMPTY], [EMPTY]]
        assert forgotten == []

    play(script)
