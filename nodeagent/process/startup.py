"""Start-up as a list of steps: each makes one thing and leaves on the stack how it is undone."""

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from nodeagent import __version__, limits
from nodeagent.config import Config
from nodeagent.errors import ConfigError
from nodeagent.observe.log import open_log
from nodeagent.process import preflight, privileges
from nodeagent.process.capture import Capture
from nodeagent.process.cgroups import find_cgroup2_mount, own_cgroup
from nodeagent.process.control_process import ControlProcess, Program
from nodeagent.process.guard import Guard
from nodeagent.process.handover import Handover, Inheritance
from nodeagent.process.inherited import (
    KEYS,
    MARKS,
    inherited_keys,
    inherited_marks,
    inherited_slots,
    inherited_start,
    marks_to_keep,
    place_elders,
    take_over_workers,
)  # fmt: skip
from nodeagent.process.interception import basis_of, closed_units, settings_of, with_backend
from nodeagent.process.key_file import NAME, KeyFile, remove_key_file, try_key_file
from nodeagent.process.lifeline import last_of
from nodeagent.process.listeners import ListenerSet, check_ports_are_free, complete_set, free_name, usable_families
from nodeagent.process.notify import Notifier, without_systemd
from nodeagent.process.orders import SpawnerSetup
from nodeagent.process.orphans import Kin, end_remains, end_surplus
from nodeagent.process.owner import CgroupIds, OwnerFinder
from nodeagent.process.run_dir import lock_run_dir, prepare_run_dir, take_run_dir
from nodeagent.process.saved_capture import try_saved_capture
from nodeagent.process.sentry_process import SentryProcess
from nodeagent.process.slot import Slot, merge
from nodeagent.process.unit_map import UnitMap
from nodeagent.process.units import Marks
from nodeagent.process.workers import Fleet, FleetCalls, Lineage
from nodeagent.wire.requests import Family
from redirect.errors import RedirectError
from redirect.settings import Settings

_log = open_log()
_PROC_SELF = Path("/proc/self")


@dataclass(slots=True, eq=False)
class Users:
    """Whom the children run as."""

    control: privileges.User
    worker: privileges.User


class Parts:
    """What a running supervisor is made of, in the order in which it is made. Owned by the supervisor."""

    loop: asyncio.AbstractEventLoop
    users: Users
    cgroups: Path
    """The directory of `cgroup_root`."""
    own_cgroup: Path
    """That of this agent's processes."""
    saved: Capture | None
    """What was captured before this process started."""
    families: tuple[Family, ...]
    run_dir: int
    """Holds the run directory's lock."""
    slots: list[Slot]
    has_inherited: bool
    """Whether any of their sockets was listening before this process was there."""
    sentry: SentryProcess
    guard: Guard
    cgroup_ids: CgroupIds
    owners: OwnerFinder
    start: str
    fleet: Fleet
    units: UnitMap
    control: ControlProcess
    key_file: KeyFile

    def __init__(
        self, config: Config, config_path: Path, inheritance: Inheritance | None = None,
        stored: Sequence[tuple[str, int]] = (),
    ) -> None:  # fmt: skip
        """`stored`: names and descriptors that the service manager has kept."""
        self.inheritance = inheritance
        self.stored = stored
        self.notifier = Notifier(os.environ, os.getpid())
        passed = self.passed
        before = (passed.generation, passed.serial) if passed else last_of(name for name, _ in stored)
        self.generation, self.last_serial = before[0] + 1, before[1]
        self.config = config
        self.config_path = config_path
        self.cgroup_root = config.intercept.cgroup_root.strip("/")
        """This host's own below the mount; empty: the mount."""
        self.environ = without_systemd(os.environ)
        self.configured_at = wall_clock()
        self.started_at = passed.started_at if passed else self.configured_at

    @property
    def passed(self) -> Handover | None:
        """What a predecessor left; None: none, or nothing that is understood."""
        return self.inheritance.value if self.inheritance else None

    @property
    def kin(self) -> Kin:
        """Who belongs to this agent, whoever started it."""
        return Kin(self.own_cgroup, self.users.control.uid, self.users.worker.uid)

    def store(self, each: ListenerSet) -> None:
        """Has the service manager keep a set."""
        self.notifier.store(each.name, [listener.sock.fileno() for listener in each.sockets])

    def keep_keys(self, memory: int) -> None:
        """Has the service manager keep control's memory of keys instead of what it kept; and the disk, where that is wanted."""
        self.notifier.store(KEYS, [memory], is_instead=True)
        self.key_file.save()

    def keep_marks(self, marks: Marks) -> None:
        """Has the service manager keep what the kernel's stamps mean; rather nothing than what they meant: numbers would mean two units."""
        try:
            memory = marks_to_keep(marks)
        except OSError as error:
            _log.warning("marks_not_kept", error=str(error), effect="after a crash, stamps are looked up for a moment")
            self.notifier.forget(MARKS)
            return
        if not self.notifier.store(MARKS, [memory], is_instead=True):
            self.notifier.forget(MARKS)
        os.close(memory)


Step = Callable[[Parts, AsyncExitStack], None]


def wall_clock() -> float:
    """Unix seconds."""
    return datetime.now(tz=UTC).timestamp()


def start(parts: Parts, stack: AsyncExitStack) -> None:
    """Everything started, in order.

    Raises:
        ConfigError: something that must be there is not; what was made is undone by the stack.
    """
    for step in STEPS:
        step(parts, stack)


def _notify(parts: Parts, stack: AsyncExitStack) -> None:
    stack.callback(parts.notifier.close)


def _check(parts: Parts, _stack: AsyncExitStack) -> None:
    preflight.check_is_root()
    host = parts.config.host
    parts.users = Users(
        control=privileges.resolve_user(host.control_user, "host.control_user"),
        worker=privileges.resolve_user(host.worker_user, "host.worker_user"),
    )
    preflight.check_users(parts.users.control, parts.users.worker)
    preflight.check_group(parts.config.admin.write_group, f"{parts.config_path}: admin.write_group")
    if not parts.passed:  # it was asked when the first of us was started, and workers wait for answers
        preflight.check_kernel(parts.config)
    if preflight.backlog_limit() < limits.ACCEPT_BACKLOG:
        _log.warning("backlog_limited", sysctl="net.core.somaxconn", limit=preflight.backlog_limit())


def _lock(parts: Parts, stack: AsyncExitStack) -> None:
    run_dir = Path(parts.config.admin.socket).parent
    prepare_run_dir(run_dir, parts.users.control)
    parts.run_dir = take_run_dir(run_dir, parts.passed.run_dir) if parts.passed else lock_run_dir(run_dir)
    stack.callback(os.close, parts.run_dir)


def _recall(parts: Parts, _stack: AsyncExitStack) -> None:
    """What may bypass a dead agent is believed only where nothing has changed by which it was decided."""
    if parts.passed:
        passed = parts.passed
        known = passed.capture if passed.basis == basis_of(parts.config) else replace(passed.capture, exceptions=None)
        parts.saved = None if passed.capture == Capture() else known  # control had not spoken: what is in the sets stays
        return
    saved = _read_saved(parts)
    parts.saved = saved and replace(saved, exceptions=None)


def _read_saved(parts: Parts) -> Capture | None:
    """As a member of control's group, to whom the directory belongs: root without its capabilities may not look into it."""
    groups = os.getgroups()
    os.setgroups([parts.users.control.gid])
    try:
        return try_saved_capture(Path(parts.config.admin.state_dir))
    finally:
        os.setgroups(groups)


def _bind(parts: Parts, stack: AsyncExitStack) -> None:
    parts.families = usable_families()
    if parts.families == (4,):
        _log.warning("ipv6_missing", effect="IPv6 connections are not captured")
    count = worker_count(parts.config, os.cpu_count() or 1)
    parts.slots = merge(inherited_slots(parts), count)
    parts.has_inherited = any(slot.sets for slot in parts.slots)
    if not parts.has_inherited:
        check_ports_are_free(parts.families)
    stack.callback(_close_slots, parts)
    for slot in parts.slots:
        if slot.sets or not parts.has_inherited:  # one that is new beside others gets sockets together with a worker: nobody is to wait there for it
            _complete(parts, slot)


def _complete(parts: Parts, slot: Slot) -> None:
    """The slot with all its sockets; what the service manager does not have yet it is given."""
    taken = {each.name for other in parts.slots for each in other.sets}
    known = {each.name: len(each.sockets) for each in slot.sets}
    sets = slot.sets or [ListenerSet(free_name(taken), ())]
    for surplus in sets[limits.SETS_PER_WORKER :]:
        _log.warning("listeners_closed", set=surplus.name, effect="connections in their queues are reset")
        parts.notifier.forget(surplus.name)
        surplus.close()
    slot.sets = [complete_set(each, parts.families) for each in sets[: limits.SETS_PER_WORKER]]
    for each in slot.sets:
        if len(each.sockets) != known.get(each.name):
            parts.notifier.forget(each.name)
            parts.store(each)


def _close_slots(parts: Parts) -> None:
    for slot in parts.slots:
        for each in slot.sets:
            each.close()


def _drop(_parts: Parts, _stack: AsyncExitStack) -> None:
    """After the look at who holds a port; the rest of this process's life is lived with less."""
    privileges.keep_only(privileges.SUPERVISOR)
    privileges.limit_resources()
    privileges.adopt_orphans()


def _intercept(parts: Parts, stack: AsyncExitStack) -> None:
    is_enabled = parts.config.intercept.enabled
    parts.sentry = SentryProcess(parts.loop, parts.environ)
    stack.callback(parts.sentry.release)
    try:
        parts.guard = Guard(_settings(parts) if is_enabled else None, closed_units(parts.config), parts.sentry.beat)
        stack.callback(parts.guard.close)
        if is_enabled:
            parts.guard.install(agent_cgroup())
            if parts.saved:
                parts.guard.capture(parts.saved)
            if parts.has_inherited:  # whoever comes waits in the queues for those who will serve, and is not refused meanwhile
                parts.guard.beat()
                parts.notifier.away(limits.AWAY_S)  # the first beat of ours ends that
        else:
            parts.guard.remove()
    except RedirectError as error:
        raise ConfigError(f"interception cannot be put in place: {error}") from error


def _settings(parts: Parts) -> Settings:
    """What is to be captured, as far as it is fixed."""
    users = parts.users
    return with_backend(parts.config, settings_of(parts.config, control_uid=users.control.uid, worker_uid=users.worker.uid))


def _find_owners(parts: Parts, stack: AsyncExitStack) -> None:
    mount = find_cgroup2_mount((_PROC_SELF / "mountinfo").read_text(encoding="utf-8"))
    parts.cgroups = mount / parts.cgroup_root
    parts.own_cgroup = mount / own_cgroup((_PROC_SELF / "cgroup").read_text(encoding="utf-8"))
    parts.cgroup_ids = CgroupIds(parts.cgroups, parts.loop.time)
    parts.owners = OwnerFinder(parts.cgroup_ids, parts.loop.call_later)
    stack.callback(parts.owners.close)


def _make_fleet(parts: Parts, _stack: AsyncExitStack) -> None:
    parts.start = inherited_start(parts, random.SystemRandom().random())
    setup = SpawnerSetup(parts.config, *parts.users.worker, parts.start)
    calls = FleetCalls(
        find_owner=parts.owners.find,
        marks=lambda: parts.units.marks(),  # noqa: PLW0108 - made by a later step
        hand_over=lambda worker: parts.control.hand_over(worker),  # noqa: PLW0108 - made by a later step
        wall_clock=wall_clock,
        is_policy_awaited=lambda: parts.control.is_awaited,
        is_policy_told=lambda: parts.control.tells_policy,
        store=parts.store,
        keep=parts.notifier.store if parts.notifier.is_there else None,
        forget=parts.notifier.forget,
        has_sentry_held=lambda: parts.sentry.is_watching and parts.sentry.is_holding,
    )
    passed = parts.passed
    lineage = Lineage(parts.generation, __version__, parts.config.host.drain_max_s, parts.last_serial)
    parts.fleet = Fleet(parts.loop, parts.families, setup, parts.environ, calls, lineage)
    if passed:
        place_elders(parts, passed)
        parts.fleet.spawner.exits = passed.spawner_exits


def _follow_units(parts: Parts, stack: AsyncExitStack) -> None:
    """Before the first worker is started, so that it is told every mark at its birth."""
    try:
        parts.units = UnitMap(
            parts.loop,
            parts.cgroups,
            parts.fleet.tell_units,
            lambda units: parts.guard.load_units(parts.cgroup_root, units),
            parts.cgroup_ids.note,
            inherited_marks(parts, random.SystemRandom().random()),
        )
        parts.units.keep = parts.keep_marks
        stack.callback(parts.units.close)
        parts.units.start()
    except OSError as error:
        raise ConfigError(f"units cannot be followed: {error}") from error


def _make_control(parts: Parts, stack: AsyncExitStack) -> None:
    program = Program(parts.config, parts.config_path, parts.users.control, parts.environ)
    path, is_on_disk = Path(parts.config.admin.state_dir) / NAME, parts.config.identity.persist == "disk"
    keys = _recall_keys(parts, path, is_on_disk=is_on_disk)
    parts.control = ControlProcess(parts.loop, program, parts.fleet.living, parts.guard.capture, parts.keep_keys, keys)
    stack.callback(parts.control.forget_keys)
    parts.key_file = KeyFile(parts.loop, path, parts.environ, lambda: parts.control.keys if is_on_disk else -1)
    parts.key_file.save()  # what the predecessor held may never have got there
    if parts.passed:
        parts.control.exits = parts.passed.control_exits


def _recall_keys(parts: Parts, path: Path, *, is_on_disk: bool) -> int:
    """Control's memory of keys: what was left to us is newer than any file. -1: none is known."""
    keys = inherited_keys(parts)
    if not is_on_disk:
        remove_key_file(path)
    return keys if keys >= 0 or not is_on_disk else try_key_file(path)


def _clear(parts: Parts, _stack: AsyncExitStack) -> None:
    """What hangs of a supervisor of before: it would hold the metrics port, and memory, for ever. Who does not is taken over."""
    if parts.passed:
        return
    if ended := end_remains(parts.kin, is_overdue=False):
        _log.warning("remains_ended", pids=ended, why="they were stopped, and their supervisor is gone")
    taken = take_over_workers(parts)
    kept = (limits.GENERATIONS - 1) * len(parts.slots)
    if ended := end_surplus(parts.kin, kept, taken):
        _log.warning("generation_ended", pids=ended, why=f"{limits.GENERATIONS} generations live already")


def _launch(parts: Parts, _stack: AsyncExitStack) -> None:
    parts.control.start()
    parts.fleet.start(parts.slots, is_resumed=parts.has_inherited)
    parts.sentry.start()


def agent_cgroup() -> str:
    """Our own cgroup below the mount.

    Raises:
        ConfigError: the root, by which nobody can be told apart.
    """
    path = own_cgroup((_PROC_SELF / "cgroup").read_text(encoding="utf-8"))
    if not path:
        raise ConfigError(
            "nodeagent runs in the root cgroup, where its own connections cannot be told from others: start it by"
            " systemd, or in a cgroup of its own (mkdir CGROUP2/nodeagent.service; echo $$ > .../cgroup.procs)"
        )
    return path


def worker_count(config: Config, cores: int) -> int:
    """How many workers this host gets."""
    return config.host.workers or min(cores, limits.WORKERS_USUAL)


STEPS: tuple[Step, ...] = (
    _notify,
    _check,
    _lock,
    _recall,
    _bind,
    _drop,
    _intercept,
    _find_owners,
    _make_fleet,
    _follow_units,
    _make_control,
    _clear,
    _launch,
)
