"""From what a predecessor or the service manager has left to slots with sockets, and the workers that accept from them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nodeagent import limits
from nodeagent.observe.log import open_log
from nodeagent.process.handover import (
    Handover,
    PassedMarks,
    PassedSet,
    PassedSlot,
    encode_marks,
    is_sealed,
    try_decode_marks,
)
from nodeagent.process.interception import basis_of
from nodeagent.process.lifeline import PREFIX, take_lifelines
from nodeagent.process.listeners import SET_NAME, ListenerSet, ListenerSocket, try_listener
from nodeagent.process.slot import Slot
from nodeagent.process.starts import NAME, count_start
from nodeagent.process.units import Marks
from nodeagent.process.worker_process import State, WorkerProcess

if TYPE_CHECKING:
    from nodeagent.process.startup import Parts

_log = open_log()
KEYS = "keys"
"""What the service manager calls control's memory of keys."""
MARKS = "marks"
"""And the table of what the kernel's stamps mean."""
_MARKS_BYTES = 512 * limits.UNIT_MARKS  # a name has at most 255 bytes


def inherited_slots(parts: "Parts") -> list[Slot]:
    """A slot for each set of sockets that is left to us; none where this is the first start."""
    if parts.passed:
        return [_slot(passed) for passed in parts.passed.slots]
    if parts.inheritance:
        _log.warning("handover_unknown", effect="workers of before finish what they carry, and hear no more of policy")
        return _slots_of_strays(parts)
    named = [(name, fd) for name, fd in parts.stored if name not in (KEYS, MARKS) and not name.startswith(PREFIX)]
    return [Slot([each]) for each in group(named)]


def inherited_keys(parts: "Parts") -> int:
    """Control's memory of keys, as it is left to us; -1: there is none, or what there is could be changed by others."""
    kept = [parts.passed.keys] if parts.passed else [fd for name, fd in parts.stored if name == KEYS]
    sealed = [fd for fd in kept if fd >= 0 and is_sealed(fd)]
    for fd in kept:
        if fd >= 0 and fd not in sealed[-1:]:
            os.close(fd)
    return sealed[-1] if sealed else -1


def inherited_marks(parts: "Parts", draw: float) -> Marks:
    """What the stamps of connections mean that wait in our queues.

    Where that is not known any more (`draw`: by chance, 0 to 1), other numbers are given than those that are likely on them:
    whose stamp is not known is looked up, and not taken for another.
    """
    kept = [try_decode_marks(_read(fd)) for name, fd in parts.stored if name == MARKS]
    known = parts.passed.marks if parts.passed else next(filter(None, kept), None)
    if known:
        return Marks(mark_of=known.mark_of, gone=known.gone)
    return Marks(first=int(draw * limits.UNIT_MARKS) if parts.has_inherited else 0)


def inherited_start(parts: "Parts", draw: float) -> str:
    """What this start is called: a reload is none."""
    known = parts.passed.start if parts.passed else ""
    return known or count_start(Path(parts.config.admin.state_dir) / NAME, draw)


def _read(fd: int) -> bytes:
    """What is in that memory, which is closed."""
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read(_MARKS_BYTES)


def _slot(passed: PassedSlot) -> Slot:
    sets = [ListenerSet(each.name, tuple(filter(None, map(try_listener, each.descriptors)))) for each in passed.sets]
    return Slot(sets, exits=passed.exits, restarts=passed.restarts)


def _slots_of_strays(parts: "Parts") -> list[Slot]:
    """The listening sockets among descriptors that nobody can name; the service manager's names for them are void."""
    sets = group(("", fd) for fd in parts.inheritance.strays) if parts.inheritance else []
    for number in range(limits.WORKERS_MAX):
        parts.notifier.forget(SET_NAME.format(number))
    for each in sets:
        parts.store(each)
    return [Slot([each]) for each in sets]


def group(named: Iterable[tuple[str, int]]) -> list[ListenerSet]:
    """Sets of the sockets by their names, and of those without a name as they come. What is none of ours is closed."""
    found: dict[str, list[ListenerSocket]] = {}
    for name, fd in named:
        if listener := try_listener(fd):
            found.setdefault(name if name.startswith("listeners-") else "", []).append(listener)
    sets = [ListenerSet(name, tuple(sockets)) for name, sockets in sorted(found.items()) if name]
    names = (name for number in range(limits.WORKERS_MAX) if (name := SET_NAME.format(number)) not in found)
    nameless = found.get("", [])
    while nameless and (name := next(names, "")):
        one_each = {(listener.kind, listener.family): listener for listener in reversed(nameless)}
        nameless = [listener for listener in nameless if listener not in one_each.values()]
        sets.append(ListenerSet(name, tuple(one_each.values())))
    ListenerSet("", tuple(nameless)).close()
    return sets


def place_elders(parts: "Parts", passed: Handover) -> None:
    """Every worker that lives on is known again; those that accept do so from their slot's sockets until another does."""
    workers = {each.serial: parts.fleet.inherit(each) for each in passed.workers}
    count = len(parts.slots)
    for number, slot in enumerate(passed.slots):
        heir = parts.slots[number if number < count else (number - count) % count]
        heir.elders += [workers[serial] for serial in slot.workers if serial in workers]


def take_over_workers(parts: "Parts") -> list[int]:
    """Who finishes what it carries after a crash or restart hears policy again; the pids. Lifelines are used once."""
    lifelines = [(name, fd) for name, fd in parts.stored if name.startswith(PREFIX)]
    for name, _ in lifelines:
        parts.notifier.forget(name)
    until = parts.loop.time() + parts.config.host.drain_max_s
    workers = [parts.fleet.inherit(passed) for passed in take_lifelines(lifelines, parts.kin, until)]
    for worker in workers:
        _log.info("worker_taken_over", worker=worker.number, pid=worker.pid, generation=worker.origin.generation)
    return [worker.pid for worker in workers]


def value_to_pass(parts: "Parts", workers: list[WorkerProcess], config: bytes) -> Handover:
    """What this supervisor leaves; `workers` live on, `config` is the successor's."""
    fleet, marks = parts.fleet, parts.units.given
    return Handover(
        generation=parts.generation, version=fleet.lineage.version, started_at=parts.started_at, run_dir=parts.run_dir,
        slots=tuple(map(_passed_slot, fleet.slots)), workers=tuple(worker.pass_on() for worker in workers),
        marks=_passed_marks(marks), capture=parts.guard.captured,
        control_exits=parts.control.exits, spawner_exits=fleet.spawner.exits, serial=fleet.last_serial,
        keys=parts.control.keys, basis=basis_of(parts.config), start=parts.start, config=config,
    )  # fmt: skip


def marks_to_keep(marks: Marks) -> int:
    """A descriptor of what the marks mean, for the service manager."""
    memory = os.memfd_create("nodeagent-marks", os.MFD_CLOEXEC)
    os.write(memory, encode_marks(_passed_marks(marks)))
    return memory


def _passed_marks(marks: Marks) -> PassedMarks:
    return PassedMarks({unit: mark for mark, unit in marks.all().items()}, marks.gone())


def _passed_slot(slot: Slot) -> PassedSlot:
    accepting = tuple(each.serial for each in (*slot.elders, slot.worker) if each and each.state != State.DEAD)
    sets = tuple(PassedSet(each.name, tuple(listener.sock.fileno() for listener in each.sockets)) for each in slot.sets)
    return PassedSlot(sets, accepting, slot.exits, slot.restarts)
