"""The fleet: N workers, each in a slot with its own listening sockets, replaced when they end.

Workers are born without sockets. One that could serve is given a slot's: that of a dead one, or of one of an earlier
generation, which drains from then on. One more than there are slots waits as a spare.
"""

import asyncio
import itertools
import math
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from nodeagent import limits
from nodeagent.errors import ConfigError
from nodeagent.observe.log import open_log
from nodeagent.process.handover import PassedWorker
from nodeagent.process.lifeline import Keep
from nodeagent.process.listeners import ListenerSet, bind_set
from nodeagent.process.orders import Spawn, Spawned, SpawnerSetup
from nodeagent.process.restart import remember_exit, start_at
from nodeagent.process.slot import Slot, describe
from nodeagent.process.spawner_process import SpawnerProcess
from nodeagent.process.vacancy import Vacancies
from nodeagent.process.worker_process import FindOwner, Origin, State, WorkerCalls, WorkerProcess
from nodeagent.wire.frames import WorkerFacts
from nodeagent.wire.requests import Family

_log = open_log()
_GRAIN_S = 0.01  # a timer may go off earlier than its clock says, by less than this


@dataclass(frozen=True, slots=True)
class FleetCalls:
    """What the fleet needs of others."""

    find_owner: FindOwner
    marks: Callable[[], Mapping[int, str]]
    """Every mark that a worker must know."""
    hand_over: Callable[[WorkerProcess], None]
    """Passes a worker's channel, its first or a new one, on to control."""
    wall_clock: Callable[[], float]
    is_policy_awaited: Callable[[], bool] = lambda: False
    """Whether control may yet tell workers what it knows."""
    is_policy_told: Callable[[], bool] = lambda: True
    """Whether it has some, and tells it now."""
    store: Callable[[ListenerSet], None] = lambda _: None
    """Has the service manager keep a set."""
    keep: Keep | None = None
    """The same of any descriptors; None: there is no service manager."""
    forget: Callable[[str], None] = lambda _: None
    has_sentry_held: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which workers this fleet bears, and how long those of earlier ones may take to end."""

    generation: int = 1
    version: str = ""
    drain_max_s: float = limits.DRAIN_MAX_S
    last_serial: int = 0


_FIRST = Lineage()


class Fleet:
    """All workers and their spawner. Owned by the supervisor."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, families: tuple[Family, ...], setup: SpawnerSetup,
        environ: Mapping[str, str], calls: FleetCalls, lineage: Lineage = _FIRST,
    ) -> None:  # fmt: skip
        self.slots: list[Slot] = []
        self.changed = asyncio.Event()
        """Set whenever a worker came, served or went; whoever waits clears it."""
        self.lineage = lineage
        self._idle: list[WorkerProcess] = []
        """Born for no slot in particular: they start, or wait for one."""
        self._old: list[WorkerProcess] = []
        """They accept no more."""
        self._loop = loop
        self._families = families
        self._calls = calls
        self._worker_calls = WorkerCalls(calls.find_owner, self._note_ready, calls.hand_over, self._note_end, calls.keep, calls.forget)
        self.spawner = SpawnerProcess(loop, setup, environ, self._note_spawned, self._note_exited, self._order_again)
        self._vacancies = Vacancies(loop, self._fill, calls.forget, calls.has_sentry_held)
        self.last_serial = lineage.last_serial
        """Of the last order."""
        self._exits: tuple[float, ...] = ()
        """Of workers that ended before they had a slot."""
        self._birth_at = 0.0
        self._patient_until = 0.0
        """Until then, those who wait in the queues wait for somebody who will not refuse them for want of knowledge."""
        self._is_resumed, self._is_wanted = False, True

    def inherit(self, passed: PassedWorker) -> WorkerProcess:
        """A worker of an earlier generation, which is known from now on."""
        worker = WorkerProcess.inherit(self._loop, passed, self._worker_calls)
        self._old.append(worker)
        return worker

    def start(self, slots: Iterable[Slot], *, is_resumed: bool = False) -> None:
        """Starts the spawner and a worker for each slot; `is_resumed`: connections wait in the slots' queues, and others may join."""
        self._is_resumed = is_resumed
        self._patient_until = self._loop.time() + limits.RESUME_S
        self._loop.call_at(self._patient_until, self._outwait)
        self.slots = list(slots)
        for worker in (elder for slot in self.slots for elder in slot.elders):
            self._old.remove(worker)
        self.spawner.start()
        self._end_surplus()
        self._fill()

    def living(self) -> list[WorkerProcess]:
        """Workers that are not dead."""
        placed = [worker for slot in self.slots for worker in (slot.worker, *slot.elders) if worker]
        return [worker for worker in (*placed, *self._idle, *self._old) if worker.state != State.DEAD]

    def serving(self) -> list[WorkerProcess]:
        """Workers that accept connections."""
        return [worker for worker in self.living() if worker.state == State.SERVING]

    def are_all_serving(self) -> bool:
        """Whether every slot's worker accepts connections, and is of this generation."""
        return all(slot.worker and slot.worker.state == State.SERVING for slot in self.slots)

    @property
    def is_holding(self) -> bool:
        """Whether those who come wait in the queues until somebody knows policy."""
        return self._is_resumed and self._calls.is_policy_awaited() and not self.serving()

    def facts(self) -> list[WorkerFacts]:
        """For `status`."""
        boot_at = self._calls.wall_clock() - self._loop.time()
        return describe(self.living(), self.slots, self.lineage.generation, self.lineage.version, boot_at)

    def tell_units(self, units: Mapping[int, str]) -> None:
        """Tells every worker what marks mean."""
        for worker in self.living():
            for mark, unit in units.items():
                worker.tell_unit(mark, unit)

    async def leave(self) -> None:
        """Makes ready for a successor: nobody is born any more, and who has no slot ends."""
        self._is_wanted = False
        for worker in list(self._idle):
            worker.drain()
            worker.kill()
        async with asyncio.timeout(limits.CUT_S):
            while self._idle:
                self.changed.clear()
                await self.changed.wait()
        await self.spawner.stop()

    def staying(self) -> list[WorkerProcess]:
        """Those that live on; they are told that answers come late from now on.

        One without a channel does not: a successor could not know it.
        """
        workers = [worker for worker in self.living() if not worker.has_ended]
        for worker in workers:
            if worker.has_channel:
                worker.pause()  # where it cannot be told, its channel is closed now
            else:
                worker.kill()
        return [worker for worker in workers if worker.has_channel]

    def release(self) -> None:
        """Nobody accepts any more, and all may finish what they carry; the sockets are kept for a successor's workers."""
        for worker in self.living():
            worker.drain(self.lineage.drain_max_s)

    @property
    def has_unsent(self) -> bool:
        """Whether some worker was not told yet what it was to be told."""
        return any(worker.has_unsent for worker in self.living())

    def stay(self) -> None:
        """There is no successor after all."""
        self._is_wanted = True
        self.spawner.revive()
        self._fill()

    @property
    def unserved(self) -> int:
        """Slots without anybody who accepts, for longer than it takes to replace somebody."""
        return self._vacancies.number(self.slots)

    async def drain(self, grace_s: float, cut: asyncio.Event) -> None:
        """Lets open connections end, then ends the workers: after `grace_s`, or when `cut` is set."""
        self._is_wanted = False
        for worker in self.living():
            worker.drain()
        for slot in self.slots:
            self._vacancies.vacate(slot)
        try:
            async with asyncio.timeout(grace_s):
                await self._until_gone(cut)
        except TimeoutError:
            _log.warning("drain_cut", workers=len(self.living()), after_s=grace_s)
        for worker in self.living():
            worker.kill()
        async with asyncio.timeout(limits.CUT_S):
            await self._until_gone(asyncio.Event())
        await self.spawner.stop()

    async def _until_gone(self, cut: asyncio.Event) -> None:
        while self.living() and not cut.is_set():
            self.changed.clear()
            waits = [asyncio.ensure_future(event.wait()) for event in (self.changed, cut)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    # --- births and places -------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Whoever could serve gets a slot that needs a worker; as many are born as slots will need, and a spare."""
        if self._is_wanted:
            self._fill_slots(self._loop.time() + _GRAIN_S)
        self._vacancies.leave(self.slots)

    def _fill_slots(self, now: float) -> None:
        for slot in self.slots:
            if slot.worker is None and (slot.sets or slot.due_at <= now) and (worker := self._try_candidate(slot)):
                self._place(worker, slot)
        empty = [slot for slot in self.slots if slot.worker is None]
        while len(self._idle) < self._number_wanted(empty, now) and self._birth_at <= now and self._bear():
            pass
        for slot in empty:  # where nobody can fill it for long, the others get its share
            is_nobody_born = max(self._birth_at, slot.due_at) - now > limits.VACANT_S and self.serving()
            if not slot.elders and (is_nobody_born or self._is_knowledge_rare()):
                self._vacancies.end(slot)

    def _number_wanted(self, empty: list[Slot], now: float) -> int:
        """Of workers without a slot. Who ends again and again is replaced by a spare at once, so it is spares that come later and later."""
        spares = limits.SPARES if all(slot.due_at <= now for slot in self.slots) else 0
        return sum(slot.due_at <= now for slot in empty) + spares

    def _is_knowledge_rare(self) -> bool:
        """Whether some with sockets know policy, and nobody else will hear it for now: who does not would refuse what they serve.

        Who hears it says so, which fills what was left empty.
        """
        is_known = any(each.is_informed for slot in self.slots for each in (slot.worker, *slot.elders) if each)
        return is_known and not self._is_patient() and not self._calls.is_policy_told()

    def _is_patient(self) -> bool:
        return self._loop.time() + _GRAIN_S < self._patient_until or self._calls.is_policy_awaited()

    def _outwait(self) -> None:
        """Looks whether policy is awaited still, until it is not."""
        was_awaiting = self._calls.is_policy_awaited()  # should that end meanwhile, the next look is the one that fills
        self._fill()
        if was_awaiting:
            self._loop.call_later(limits.RESEND_S, self._outwait)

    def _try_candidate(self, slot: Slot) -> WorkerProcess | None:
        """A worker for the slot. Where somebody accepts already, only one that decides as well."""
        is_demanding = self._is_patient() or any(elder.is_informed for elder in slot.elders) or self._is_knowledge_rare()
        ready = sorted((each for each in self._idle if each.state == State.STANDBY and math.isinf(each.killed_at)), key=lambda each: not each.is_informed)
        return next((each for each in ready if each.is_informed or not is_demanding), None)

    def _place(self, worker: WorkerProcess, slot: Slot) -> None:
        """Gives the worker the slot's sockets, if there are any."""
        try:
            if not slot.sets:
                slot.sets = [bind_set((each.name for slot in self.slots for each in slot.sets), self._families)]
                self._calls.store(slot.sets[0])
                slot.unserved_at = self._loop.time()
            worker.listen([listener for each in slot.sets for listener in each.sockets])
        except (ConfigError, OSError) as error:
            _log.error("listeners_failed", worker=worker.number, error=str(error))
            slot.due_at = self._loop.time() + limits.VACANT_S
            self._loop.call_at(slot.due_at, self._fill)
        else:
            self._idle.remove(worker)
            slot.worker = worker

    def _bear(self) -> bool:
        """Orders one more worker; whether that could be done."""
        used = {worker.number for worker in self.living()}
        number = next(number for number in itertools.count() if number not in used)
        generation, version = self.lineage.generation, self.lineage.version
        origin = Origin(generation, version, self._calls.wall_clock())
        self.last_serial += 1
        try:
            worker = WorkerProcess(self._loop, number, self.last_serial, self._worker_calls, origin)
        except OSError as error:
            _log.error("worker_not_started", worker=number, error=str(error))
            self._rest()
            return False
        self._idle.append(worker)
        for mark, unit in self._calls.marks().items():
            worker.tell_unit(mark, unit)
        self._order(worker)
        return True

    def _order(self, worker: WorkerProcess) -> None:
        """Asks the spawner; without one it is asked for later, and a worker that cannot be ordered is given up."""
        assert worker.ends is not None
        if not self.spawner.is_running:
            return
        if self.spawner.order(Spawn(worker.serial, worker.number), [end.fileno() for end in worker.ends]):
            worker.ends.close()
        else:
            worker.finish(None)

    def _order_again(self) -> None:
        """After a new spawner was started: what its predecessor was asked for and did not report."""
        for worker in list(self._idle):
            if worker.pid == 0:
                worker.finish(None)

    def _rest(self) -> float:
        """Seconds until the next birth, after one that failed."""
        now = self._loop.time()
        self._exits = remember_exit(self._exits, now)
        self._birth_at = start_at(self._exits, now)
        self._loop.call_at(self._birth_at, self._fill)
        return self._birth_at - now

    def _end_surplus(self) -> None:
        """No more than GENERATIONS live: the oldest are told to close what they carry."""
        generations = sorted({worker.origin.generation for worker in self.living()} | {self.lineage.generation})
        for worker in self.living():
            if worker.origin.generation in generations[: -limits.GENERATIONS]:
                _log.warning("generation_ended", generation=worker.origin.generation, worker=worker.number, pid=worker.pid,
                             why=f"{limits.GENERATIONS} generations live already")  # fmt: skip
                worker.drain(1)

    # --- what is heard of them ---------------------------------------------------------------------------------------

    def _note_ready(self, worker: WorkerProcess) -> None:
        self.changed.set()
        for slot in self.slots:
            if slot.worker is worker and worker.state == State.SERVING:
                self._relieve(slot)
        self._fill()

    def _relieve(self, slot: Slot) -> None:
        """Those that accepted from the slot's sockets before accept no more; what waits in the queues is not lost."""
        for elder in slot.elders:
            _log.info("worker_relieved", worker=elder.number, pid=elder.pid, generation=elder.origin.generation)
            elder.drain(self.lineage.drain_max_s)
        self._old += slot.elders
        slot.elders = []

    def _note_spawned(self, report: Spawned, pidfd: int) -> None:
        worker = next((each for each in self._idle if each.serial == report.serial), None)
        if worker is None or worker.state == State.DEAD:
            # Given up while it was being born. Its channel is closed, so it would end; but be sure.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
            return
        worker.spawned(report.pid, pidfd)
        self._calls.hand_over(worker)

    def _note_exited(self, pid: int, code: int) -> None:
        for worker in self.living():
            if worker.pid == pid:
                worker.finish(code)

    def _note_end(self, worker: WorkerProcess, code: int | None) -> None:
        self.changed.set()
        slot = next((slot for slot in self.slots if slot.worker is worker), None)
        facts = {"worker": worker.number, "pid": worker.pid, "code": code, "generation": worker.origin.generation}
        if slot and self._is_wanted:
            _log.error("worker_exited", **facts, restart_in_s=round(self._lose(slot), 3))
        elif worker in self._idle and self._is_wanted:
            self._idle.remove(worker)
            _log.error("worker_exited", **facts, restart_in_s=round(self._rest(), 3))
        else:
            _log.info("worker_exited", **facts)
        self._forget(worker)
        self._fill()

    def _forget(self, worker: WorkerProcess) -> None:
        for slot in self.slots:
            if worker in (slot.worker, *slot.elders):
                slot.remove(worker)
                self._vacancies.note_end(slot, worker.answered_at)
        for place in (self._old, self._idle):
            if worker in place:
                place.remove(worker)

    def _lose(self, slot: Slot) -> float:
        """In how many seconds the slot may have somebody who is born for it."""
        now = self._loop.time()
        slot.exits, slot.restarts = remember_exit(slot.exits, now), slot.restarts + 1
        slot.due_at = start_at(slot.exits, now)
        self._loop.call_at(slot.due_at, self._fill)
        return slot.due_at - now
