"""Slots that become fewer, or more."""

from types import SimpleNamespace
from typing import Any, cast

from nodeagent.process.listeners import ListenerSet
from nodeagent.process.slot import Slot, describe, merge
from nodeagent.process.worker_process import Origin, State
from nodeagent.wire.frames import WorkerFacts


def test_fewer_slots_leave_their_sockets_and_their_workers_to_the_others() -> None:
    """More slots are vacant."""
    slots = [Slot([ListenerSet(f"listeners-{number}", ())]) for number in range(5)]
    names = [[each.name[-1] for each in slot.sets] for slot in merge(slots, 2)]
    assert names == [["0", "2", "4"], ["1", "3"]]
    assert [len(slot.sets) for slot in merge(slots[3:], 4)] == [1, 1, 0, 0]


def test_a_slot_without_a_worker_is_described_as_a_dead_one() -> None:
    """With a number that nobody has, of this generation; who drains ends at a time of the wall clock."""
    old = SimpleNamespace(number=1, pid=7, state=State.DRAINING, origin=Origin(1, "a", 5.0), drain_until=60.0)
    new = SimpleNamespace(number=0, pid=8, state=State.SERVING, origin=Origin(2, "b", 50.0), drain_until=0.0)
    slots = [Slot([], worker=cast("Any", new), restarts=3), Slot([], restarts=1)]
    assert describe(cast("Any", [old, new]), slots, 2, "b", 1_000.0) == [
        WorkerFacts(0, 8, 50.0, 3, "serving", 2, "b", 0.0),
        WorkerFacts(1, 7, 5.0, 0, "draining", 1, "a", 1_060.0),
        WorkerFacts(2, 0, 0.0, 1, "dead", 2, "b"),
    ]
