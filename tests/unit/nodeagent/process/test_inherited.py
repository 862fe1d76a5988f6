"""From descriptors to slots; the whole is tried for real in tests/e2e/test_upgrade*."""

import os
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodeagent import limits
from nodeagent.process import listeners
from nodeagent.process.handover import PassedSet, PassedSlot, PassedWorker
from nodeagent.process.inherited import (
    KEYS,
    MARKS,
    group,
    inherited_keys,
    inherited_marks,
    inherited_slots,
    inherited_start,
    marks_to_keep,
    take_over_workers,
)  # fmt: skip
from nodeagent.process.lifeline import Holder, make_lifeline, name_of
from nodeagent.process.listeners import bind_set
from nodeagent.process.orphans import Kin, born_tick
from nodeagent.process.units import Marks

UID = 64902


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports that are free just now, so that a running agent is not in the way."""
    found: dict[str, int] = {}
    for kind in listeners.PORTS:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            found[kind] = probe.getsockname()[1]
    monkeypatch.setattr(listeners, "PORTS", found)


class Told:
    """What the service manager was told. Owned by one test."""

    def __init__(self, **facts: Any) -> None:
        self.stored: list[str] = []
        self.forgotten: list[str] = []
        forget = SimpleNamespace(forget=self.forgotten.append)
        self.parts: Any = SimpleNamespace(
            notifier=forget, store=lambda each: self.stored.append(each.name), passed=None, inheritance=None, **facts
        )


def descriptors(count: int) -> list[int]:
    """Of so many sets of three sockets each."""
    sets = [bind_set((), (4,)) for _ in range(count)]
    return [listener.sock.detach() for each in sets for listener in each.sockets]


def closed(slots: Any) -> list[list[int]]:
    """How many sockets each slot's sets have; they are closed."""
    sizes = [[len(each.sockets) for each in slot.sets] for slot in slots]
    for slot in slots:
        for each in slot.sets:
            each.close()
    return sizes


@pytest.mark.usefixtures("ports")
def test_what_the_service_manager_has_kept_is_told_apart_by_name() -> None:
    """Keys are no sockets, and what nobody knows is closed."""
    fds = descriptors(2)
    stray = os.open(os.devnull, os.O_RDONLY)
    stored = [*(("listeners-3", fd) for fd in fds[:3]), *(("listeners-1", fd) for fd in fds[3:]), ("other", stray), (KEYS, 999)]
    slots = inherited_slots(Told(stored=stored).parts)
    assert [slot.sets[0].name for slot in slots] == ["listeners-1", "listeners-3"]
    assert closed(slots) == [[3], [3]]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(stray)


@pytest.mark.usefixtures("ports")
def test_without_names_sockets_are_put_into_sets_and_stored_anew() -> None:
    """As after a value that is not understood; the service manager's names for them are void."""
    told = Told(stored=())
    told.parts.inheritance = SimpleNamespace(strays=tuple(descriptors(2)))
    assert closed(inherited_slots(told.parts)) == [[3], [3]]
    assert told.stored == ["listeners-0", "listeners-1"]
    assert told.forgotten[:2] == ["listeners-0", "listeners-1"]


@pytest.mark.usefixtures("ports")
def test_a_slot_that_was_passed_keeps_its_history() -> None:
    """A crash loop stays damped over a reload."""
    told = Told(stored=())
    fds = tuple(descriptors(1))
    told.parts.passed = SimpleNamespace(slots=(PassedSlot((PassedSet("listeners-7", fds),), (4,), (1.0, 2.0), 5),))
    (slot,) = inherited_slots(told.parts)
    assert (slot.sets[0].name, slot.exits, slot.restarts) == ("listeners-7", (1.0, 2.0), 5)
    assert closed([slot]) == [[3]]


def test_workers_that_were_left_are_taken_over_and_their_lifelines_are_no_listeners(tmp_path: Path) -> None:
    """Of each only once: the service manager forgets the names, and whoever is gone is forgotten alike."""
    with subprocess.Popen(["sleep", "1000"], user=UID) as process:
        (tmp_path / "cgroup.procs").write_text(str(process.pid))
        holder = Holder(7, 2, process.pid, born_tick(process.pid), 3, "1.0", 5.0)
        names = [name_of(holder), name_of(holder._replace(pid=999_999_999))]
        stored: list[tuple[str, int]] = []
        ends = [make_lifeline(name, lambda name, fds: stored.extend((name, os.dup(fd)) for fd in fds)) for name in names]
        inherited: list[PassedWorker] = []

        def inherit(passed: PassedWorker) -> Any:
            inherited.append(passed)
            return SimpleNamespace(number=passed.number, pid=passed.pid, origin=SimpleNamespace(generation=passed.generation))

        told = Told(
            stored=stored, kin=Kin(tmp_path, 0, UID), loop=SimpleNamespace(time=lambda: 100.0), fleet=SimpleNamespace(inherit=inherit),
            config=SimpleNamespace(host=SimpleNamespace(drain_max_s=60.0)),
        )  # fmt: skip
        assert inherited_slots(told.parts) == []
        assert take_over_workers(told.parts) == [process.pid]
        assert told.forgotten == names
        assert [(each.serial, each.state, each.drain_until, each.lifeline) for each in inherited] == [(7, "draining", 160.0, "")]
        process.kill()
    for end in ends:
        end.close()
    for fd in (inherited[0].channel, inherited[0].pidfd):
        os.close(fd)


def test_nothing_is_left_at_a_first_start() -> None:
    """Neither sockets nor keys."""
    told = Told(stored=())
    assert inherited_slots(told.parts) == []
    assert inherited_keys(told.parts) == -1
    assert group([]) == []


def test_keys_that_could_be_changed_are_not_taken() -> None:
    """They are closed."""
    memory = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    assert inherited_keys(Told(stored=[(KEYS, memory)]).parts) == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(memory)


def test_what_stamps_mean_outlives_a_crash() -> None:
    """A connection that waits in a queue was stamped before it."""
    before = Marks()
    before.follow(["a.service", "b.service"])
    before.follow(["b.service"])
    told = Told(stored=[(MARKS, marks_to_keep(before))], has_inherited=True)
    after = inherited_marks(told.parts, 0.5)
    assert (after.all(), after.gone()) == (before.all(), before.gone())
    assert inherited_slots(Told(stored=[(MARKS, 999)]).parts) == []


@pytest.mark.parametrize(("has_inherited", "number"), [(False, 1), (True, 1 + limits.UNIT_MARKS // 2)])
def test_where_that_is_not_known_other_numbers_are_given(number: int, *, has_inherited: bool) -> None:
    """Else a connection that waits would be taken for another unit's. At a first start none waits."""
    memory = os.memfd_create("test")
    os.write(memory, b"garbage")
    told = Told(stored=[(MARKS, memory)], has_inherited=has_inherited)
    marks = inherited_marks(told.parts, 0.5)
    assert marks.follow(["a.service"]) == {limits.UNIT_MARK_BASE | number: "a.service"}


def test_a_reload_is_no_new_start(tmp_path: Path) -> None:
    """Unless the predecessor was of a version that had no name for its own."""
    told = Told(config=SimpleNamespace(admin=SimpleNamespace(state_dir=str(tmp_path))))
    assert [inherited_start(told.parts, 0.5) for _ in range(2)] == ["b", "c"]
    told.parts.passed = SimpleNamespace(start="c")
    assert inherited_start(told.parts, 0.5) == "c"
    told.parts.passed = SimpleNamespace(start="")
    assert inherited_start(told.parts, 0.5) == "d"
