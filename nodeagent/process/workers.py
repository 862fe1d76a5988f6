"""The fleet: N workers, each in a slot with its own listening sockets, replaced when they end."""

import asyncio
import itertools
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from nodeagent import limits
from nodeagent.errors import ConfigError
from nodeagent.observe.log import open_log
from nodeagent.process.listeners import Family, ListenerSocket, bind_listeners, close_listeners
from nodeagent.process.orders import Spawn, Spawned, SpawnerSetup
from nodeagent.process.restart import remember_exit, start_at
from nodeagent.process.spawner_process import SpawnerProcess
from nodeagent.process.worker_process import FindOwner, State, WorkerCalls, WorkerProcess
from nodeagent.wire.frames import WorkerFacts

_log = open_log()


@dataclass(slots=True, eq=False)
class Slot:
    """A worker's place. Owned by the fleet."""

    number: int
    listeners: tuple[ListenerSocket, ...]
    worker: WorkerProcess | None = None
    exits: tuple[float, ...] = ()
    restarts: int = 0
    started_at: float = 0.0
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class FleetCalls:
    """What the fleet needs of others."""

    find_owner: FindOwner
    marks: Callable[[], Mapping[int, str]]
    """Every mark that a worker must know."""
    hand_over: Callable[[WorkerProcess], None]
    """Passes a worker's channel, its first or a new one, on to control."""
    wall_clock: Callable[[], float]


class Fleet:
    """All workers and their spawner. Owned by the supervisor."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, families: tuple[Family, ...], setup: SpawnerSetup,
        environ: Mapping[str, str], calls: FleetCalls,
    ) -> None:  # fmt: skip
        self.slots: list[Slot] = []
        self.changed = asyncio.Event()
        """Set whenever a worker came, served or went; whoever waits clears it."""
        self._loop = loop
        self._families = families
        self._calls = calls
        self._worker_calls = WorkerCalls(calls.find_owner, self.changed.set, calls.hand_over, self._note_end)
        self._spawner = SpawnerProcess(loop, setup, environ, self._note_spawned, self._note_exited, self._order_again)
        self._serials = itertools.count(1)
        self._is_wanted = True

    def start(self, listeners: Iterable[tuple[ListenerSocket, ...]]) -> None:
        """Starts the spawner and a worker for each set of listeners."""
        self._spawner.start()
        for number, sockets in enumerate(listeners):
            slot = Slot(number, sockets)
            self.slots.append(slot)
            self._start(slot)

    def living(self) -> list[WorkerProcess]:
        """Workers that are not dead."""
        return [slot.worker for slot in self.slots if slot.worker and slot.worker.state != State.DEAD]

    def serving(self) -> list[WorkerProcess]:
        """Workers that accept connections."""
        return [worker for worker in self.living() if worker.state == State.SERVING]

    def are_all_serving(self) -> bool:
        """Whether every slot's worker accepts connections."""
        return len(self.serving()) == len(self.slots)

    def facts(self) -> list[WorkerFacts]:
        """For `status`."""
        return [
            WorkerFacts(
                number=slot.number,
                pid=slot.worker.pid if slot.worker else 0,
                started_at=slot.started_at,
                restarts=slot.restarts,
                state=str(slot.worker.state if slot.worker else State.DEAD),
            )
            for slot in self.slots
        ]

    def tell_units(self, units: Mapping[int, str]) -> None:
        """Tells every worker what marks mean."""
        for worker in self.living():
            for mark, unit in units.items():
                worker.tell_unit(mark, unit)

    async def drain(self, grace_s: float, cut: asyncio.Event) -> None:
        """Lets open connections end, then ends the workers: after `grace_s`, or when `cut` is set."""
        self._is_wanted = False
        for worker in self.living():
            worker.drain()
        for slot in self.slots:
            close_listeners(slot.listeners)
        try:
            async with asyncio.timeout(grace_s):
                await self._until_gone(cut)
        except TimeoutError:
            _log.warning("drain_cut", workers=len(self.living()), after_s=grace_s)
        for worker in self.living():
            worker.kill()
        async with asyncio.timeout(limits.CUT_S):
            await self._until_gone(asyncio.Event())
        await self._spawner.stop()

    async def _until_gone(self, cut: asyncio.Event) -> None:
        while self.living() and not cut.is_set():
            self.changed.clear()
            waits = [asyncio.ensure_future(event.wait()) for event in (self.changed, cut)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def _start(self, slot: Slot) -> None:
        if not self._is_wanted:
            return
        try:
            worker = WorkerProcess(self._loop, slot.number, next(self._serials), self._worker_calls)
        except OSError as error:
            _log.error("worker_not_started", worker=slot.number, error=str(error))
            self._start_again(slot)
            return
        slot.worker, slot.started_at = worker, self._calls.wall_clock()
        for mark, unit in self._calls.marks().items():
            worker.tell_unit(mark, unit)
        if self._spawner.is_running:
            self._order(slot, worker)

    def _order(self, slot: Slot, worker: WorkerProcess) -> None:
        """Asks the spawner; a worker whose order cannot be given is given up, and its successor is ordered."""
        try:
            slot.listeners = slot.listeners or bind_listeners(self._families)
        except (ConfigError, OSError) as error:
            _log.error("listeners_failed", worker=slot.number, error=str(error))
            worker.finish(None)
            return
        spawn = Spawn(worker.serial, slot.number, tuple((listener.kind, listener.family) for listener in slot.listeners))
        descriptors = [end.fileno() for end in (*worker.ends, *(listener.sock for listener in slot.listeners))]
        if self._spawner.order(spawn, descriptors):
            worker.ends.close()
        else:
            worker.finish(None)

    def _order_again(self) -> None:
        """After a new spawner was started: what its predecessor was asked for and did not report."""
        for slot in self.slots:
            if slot.worker and slot.worker.pid == 0 and slot.worker.state != State.DEAD:
                slot.worker.finish(None)

    def _note_spawned(self, report: Spawned, pidfd: int) -> None:
        worker = self.slots[report.number].worker
        if worker is None or worker.serial != report.serial or worker.state == State.DEAD:
            # Given up while it was being born. Its channel is closed, so it would end; but be sure.
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
        if self._is_wanted:
            delay_s = self._start_again(self.slots[worker.number])
            _log.error("worker_exited", worker=worker.number, pid=worker.pid, code=code, restart_in_s=round(delay_s, 3))
        else:
            _log.info("worker_exited", worker=worker.number, pid=worker.pid, code=code)

    def _start_again(self, slot: Slot) -> float:
        """In how many seconds the slot's next worker is started."""
        now = self._loop.time()
        slot.exits = remember_exit(slot.exits, now)
        slot.restarts += 1
        next_at = start_at(slot.exits, now)
        if next_at - now > limits.VACANT_S and self.serving():
            close_listeners(slot.listeners)
            slot.listeners = ()
        self._loop.call_at(next_at, self._start, slot)
        return next_at - now
