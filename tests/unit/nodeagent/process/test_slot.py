"""Slots that become fewer, or more."""

from nodeagent.process.listeners import ListenerSet
from nodeagent.process.slot import Slot, merge


def test_fewer_slots_leave_their_sockets_and_their_workers_to_the_others() -> None:
    """More slots are vacant."""
    slots = [Slot([ListenerSet(f"listeners-{number}", ())]) for number in range(5)]
    names = [[each.name[-1] for each in slot.sets] for slot in merge(slots, 2)]
    assert names == [["0", "2", "4"], ["1", "3"]]
    assert [len(slot.sets) for slot in merge(slots[3:], 4)] == [1, 1, 0, 0]
