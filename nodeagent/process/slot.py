"""A worker's place, with the listening sockets that outlive whoever stands there."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nodeagent.process.listeners import ListenerSet
from nodeagent.process.worker_process import WorkerProcess


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
    """When it may have its next worker."""


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
