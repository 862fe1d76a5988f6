"""A worker's place, with the listening sockets that outlive whoever stands there."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from nodeagent.process.listeners import ListenerSet
from nodeagent.process.worker_process import State, WorkerProcess
from nodeagent.wire.frames import WorkerFacts


@dataclass(slots=True, eq=False)
class Slot:
    """A worker's place. Owned by the fleet."""

    sets: list[ListenerSet]
    """More than one where there were more slots once: a socket that is closed would lose its queue."""
    worker: WorkerProcess | None = None
    elders: list[WorkerProcess] = field(default_factory=list)
    """Of an earlier generation: they accept until `worker` does."""
    exits: tuple[float, ...] = ()
    restarts: int = 0
    due_at: float = 0.0
    """When somebody may be born for it, and may open sockets there where it has none."""
    unserved_at: float = math.inf
    """Of the loop's clock: since when nobody serves it; infinity: somebody does."""

    @property
    def is_served(self) -> bool:
        """Whether somebody accepts from its sockets."""
        return any(worker and worker.state == State.SERVING for worker in (self.worker, *self.elders))

    def remove(self, worker: WorkerProcess) -> None:
        """It has gone, whichever it was."""
        self.worker = None if self.worker is worker else self.worker
        self.elders = [each for each in self.elders if each is not worker]


def merge(slots: Sequence[Slot], count: int) -> list[Slot]:
    """As many slots: those beyond leave their sockets and elders to the others, those that are missing are new and vacant.

    What one worker cannot take is left in the last sets of a slot; see SETS_PER_WORKER.
    """
    merged = [*slots[:count], *(Slot([]) for _ in range(count - len(slots)))]
    for number, surplus in enumerate(slots[count:]):
        heir = merged[number % count]
        heir.sets += surplus.sets
        heir.elders += surplus.elders
    return merged


def describe(
    living: Sequence[WorkerProcess], slots: Sequence[Slot], generation: int, version: str, boot_at: float
) -> list[WorkerFacts]:  # fmt: skip
    """Facts of all workers, by number; a slot without one is a dead one, of this generation and version.

    boot_at: Unix seconds when the workers' clock stood at 0.
    """
    rows = [_fact(worker, slots, boot_at) for worker in living]
    free = itertools.filterfalse({row.number for row in rows}.__contains__, itertools.count())
    lost = (slot for slot in slots if slot.worker is None)
    rows += [WorkerFacts(next(free), 0, 0.0, slot.restarts, str(State.DEAD), generation, version) for slot in lost]
    return sorted(rows, key=lambda row: (row.number, row.generation))


def _fact(worker: WorkerProcess, slots: Sequence[Slot], boot_at: float) -> WorkerFacts:
    generation, version, started_at = worker.origin
    restarts = sum(slot.restarts for slot in slots if slot.worker is worker)
    ends_at = boot_at + worker.drain_until if worker.drain_until else 0.0
    return WorkerFacts(worker.number, worker.pid, started_at, restarts, str(worker.state), generation, version, ends_at)
