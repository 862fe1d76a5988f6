"""The supervisor: root, but parses no byte from the network. Starts the others, watches them, serves two requests."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from nodeagent import __version__, limits
from nodeagent.config import Config
from nodeagent.observe.log import configure_log, open_log
from nodeagent.observe.unblocked import own_stderr, unblock_stderr
from nodeagent.process.child import reap_strangers
from nodeagent.process.handover import Inheritance, replace_self
from nodeagent.process.heartbeat import Heartbeat
from nodeagent.process.inherited import value_to_pass
from nodeagent.process.notify import take_stored
from nodeagent.process.orphans import age_s, end_orphans, end_remains, find_orphans
from nodeagent.process.reload import Command, ReloadRefused, check_fixed, check_successor, own_command
from nodeagent.process.seldom import Seldom
from nodeagent.process.starts import is_counting
from nodeagent.process.startup import Parts, start, wall_clock
from nodeagent.wire.frames import SupervisorStats

_log = open_log()

_SIGNAL_TURNS = 3  # of the loop, until a signal that has come is an event: its pipe is read, then its callback is called
RESTART = signal.SIGUSR1
"""This is the first half of a restart. Who does not know it ends by it, as in a crash."""
HELD_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, RESTART)
"""They wait while this program is replaced: until its successor listens, each would end it."""


def run_supervisor(
    config: Config, config_path: Path, inheritance: Inheritance | None = None, command: Command | None = None
) -> None:
    """Serves until SIGTERM and the end of the drain, or until it is told to make room for the next.

    command: by which this program was started, and is again when it is reloaded.

    Raises:
        ConfigError: it cannot be started here; nothing is left behind.
    """
    own_stderr()
    configure_log("supervisor", config.log.level, unblock_stderr("supervisor"))
    parts = Parts(config, config_path, inheritance, take_stored(os.environ, os.getpid()))
    asyncio.run(_run(parts, command or own_command()))


async def _run(parts: Parts, command: Command) -> None:
    parts.loop = asyncio.get_running_loop()
    parts.loop.set_exception_handler(_log_defect)
    signals = Signals(parts.loop)
    async with AsyncExitStack() as stack:
        start(parts, stack)
        await Supervisor(parts, signals, command).serve()


class Signals:
    """What this process is told from outside. Owned by the supervisor."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """From here on nothing is lost, and nothing that came while this program was replaced."""
        self.stop = asyncio.Event()
        self.cut = asyncio.Event()
        """A second signal ends the drain."""
        self.is_restart = False
        """Whether somebody is started right after this stop."""
        self.reload = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._note_stop, number)
        loop.add_signal_handler(RESTART, self._note_restart)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)

    def _note_restart(self) -> None:
        _log.info("signal_received", signal=RESTART.name, meaning="drain goes on" if self.stop.is_set() else "make room")
        self.is_restart = True
        self.stop.set()

    def _note_stop(self, number: signal.Signals) -> None:
        meaning = "make room" if self.is_restart else "cut" if self.stop.is_set() else "drain"
        _log.info("signal_received", signal=number.name, meaning=meaning)
        if self.stop.is_set():
            self.cut.set()
        self.stop.set()


class Supervisor:
    """What goes on while the agent runs. Owned by `run_supervisor`."""

    def __init__(self, parts: Parts, signals: Signals, command: Command) -> None:
        self._parts = parts
        self._signals = signals
        self._command = command
        self._refused = 0
        self._refusal = ""
        """The last one's reason."""
        self._is_checking = False
        lives_s = 0.0 if parts.passed else age_s(os.getpid())  # a process keeps its age when it becomes another program
        self._heartbeat = Heartbeat(parts.loop, parts.fleet, self._beat, parts.notifier.alive, lambda: parts.control.is_mute, lives_s)
        self._complaint = Seldom(parts.loop.time)

    def _beat(self, unheard_s: float) -> None:
        """Once somebody serves, nobody needs a sentry of before."""
        parts = self._parts
        parts.sentry.is_holding = parts.fleet.is_holding
        parts.guard.beat(unheard_s=unheard_s)
        if parts.fleet.serving():
            parts.sentry.relieve(parts.kin)

    async def serve(self) -> None:
        """Returns when the agent was told to stop and every process it started has ended, or may go on for a restart."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(job) for job in (self._heartbeat.run(), self._watch(), self._tell(), self._announce())]
            reloads = tasks.create_task(self._follow_reloads())
            await self._signals.stop.wait()
            reloads.cancel()
            await asyncio.wait((reloads,))
            await (self._make_room() if self._signals.is_restart else self._drain())
            for task in running:
                task.cancel()
        _log.info("supervisor_stopped")

    async def _follow_reloads(self) -> None:
        """Becomes the successor each time that is asked for, unless that one is unfit: then all stays as it is."""
        while True:
            await self._signals.reload.wait()
            self._signals.reload.clear()
            try:
                await self._settle()
                await self._hand_on(await self._check())
            except Exception as error:  # noqa: BLE001 - whatever it was: the agent goes on
                is_defect = not isinstance(error, (ReloadRefused, OSError))
                self._refused += 1
                self._refusal = f"a defect: {error!r}" if is_defect else str(error) or type(error).__name__
                _log.error("reload_refused", why=self._refusal, effect="all goes on as before", exc_info=is_defect)
                self._parts.notifier.says(f"reload refused, all goes on as before: {self._refusal}")  # `systemctl reload` has ended well long ago

    async def _check(self) -> bytes:
        if is_counting():
            raise ReloadRefused("the disk of the state directory hangs since the start, and would hold this up; mend it, then reload again")
        self._is_checking = True
        try:
            config = await check_successor(self._parts.loop, self._command, self._parts.environ)
        finally:
            self._is_checking = False
        check_fixed(self._parts.config, config)
        return config

    async def _settle(self) -> None:
        """Waits for the reload before this one, but not for ever: a generation that never serves must be replaceable."""
        deadline = self._parts.loop.time() + limits.SETTLE_S
        while not self._parts.fleet.are_all_serving() and self._parts.loop.time() < deadline:
            self._parts.fleet.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._parts.fleet.changed.wait()

    async def _hand_on(self, config: bytes) -> None:
        """Never returns but by an exception: everything is in the successor's hands, or still in ours."""
        parts = self._parts
        _log.info("reload_started", generation=parts.generation, workers=len(parts.fleet.living()))
        try:
            await self._settle_guard()
            await parts.control.stop()
            await parts.key_file.settle()
            await parts.fleet.leave()
            await self._fall_silent()
            await self._hold_signals()
            await self._say_away()
            parts.guard.beat(limits.REPLACED_S)  # from here on nothing is waited for: a tick would take both words back
            sys.stderr.flush()
            value = value_to_pass(parts, parts.fleet.staying(), config)
            replace_self(value, self._command.program, self._command.arguments, os.environ)
        except BaseException as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)  # first: whoever is started inherits what is blocked
            parts.guard.resume()
            parts.control.revive()  # also where the agent was told to stop meanwhile: a drain is to be seen
            if isinstance(error, Exception):
                parts.fleet.stay()
            raise

    async def _settle_guard(self) -> None:
        """A repair would end in the middle."""
        if not await self._parts.guard.settle():
            raise ReloadRefused(f"the rules are still being compared or repaired after {limits.SETTLE_S:g} s; reload when that is done")

    async def _hold_signals(self) -> None:
        """What comes from now on waits for the successor; so does a reload that was asked for meanwhile."""
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
        for _ in range(_SIGNAL_TURNS):
            await asyncio.sleep(0)
        if self._signals.stop.is_set():
            await asyncio.sleep(limits.CUT_S)  # `serve` cancels this reload in one of its next turns
        if self._signals.reload.is_set():
            signal.pthread_kill(threading.get_ident(), signal.SIGHUP)

    async def _fall_silent(self) -> None:
        """Answers what is under way, and tells the service manager what to keep: nobody could later."""
        parts = self._parts
        deadline = parts.loop.time() + limits.QUIET_S
        while parts.loop.time() < deadline:
            parts.notifier.flush()
            if not (parts.owners.is_busy or parts.fleet.has_unsent or parts.notifier.has_unsent):
                return
            await asyncio.sleep(limits.RESCAN_S)

    async def _say_away(self) -> None:
        """Nothing is waited for once it is said. Unheard, the watchdog could end the successor before its first sign of life."""
        deadline = self._parts.loop.time() + limits.QUIET_S
        while not self._parts.notifier.away(limits.AWAY_S):
            if self._parts.loop.time() > deadline:
                raise ReloadRefused("the service manager does not read what it is told, and its watchdog would end the next program; try again")
            await asyncio.sleep(limits.RESCAN_S)

    async def _make_room(self) -> None:
        """Leaves all as a crash does, with nothing half said: workers finish what they carry, what comes waits for others."""
        parts = self._parts
        _log.info("restart_started", workers=len(parts.fleet.living()), within_s=parts.config.host.drain_max_s)
        parts.notifier.stopping("makes room for the next; open connections go on")
        await parts.guard.settle()
        await parts.control.stop()
        await parts.key_file.settle()
        await parts.fleet.leave()
        parts.fleet.release()
        await asyncio.sleep(limits.ACCEPTED_S)
        await self._fall_silent()
        parts.guard.beat()

    async def _drain(self) -> None:
        """New connections are refused first, so that none is in a queue when the queues are closed."""
        grace_s = self._parts.config.host.drain_s
        _log.info("drain_started", workers=len(self._parts.fleet.living()), grace_s=grace_s)
        self._parts.notifier.stopping("draining")
        self._heartbeat.is_draining = True
        self._parts.guard.stop_beat()
        until = self._parts.loop.time() + grace_s
        await self._parts.fleet.drain(grace_s, self._signals.cut)
        await self._outlast_orphans(until)
        await asyncio.gather(self._parts.guard.settle(), self._parts.control.stop(), self._parts.sentry.stop())
        self._parts.sentry.dismiss(self._parts.kin)
        await self._parts.key_file.settle()

    async def _outlast_orphans(self, until: float) -> None:
        """What a supervisor that crashed has left may finish meanwhile, as our own workers may; nobody is left behind."""
        parts = self._parts
        where = (parts.own_cgroup, parts.users.worker.uid)
        while find_orphans(*where) and parts.loop.time() < until and not self._signals.cut.is_set():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(limits.RESEND_S)
        if count := end_orphans(*where):
            _log.warning("orphans_ended", workers=count, why="their supervisor was one before this, and their time is over")

    async def _announce(self) -> None:
        """Tells systemd once everybody serves."""
        fleet, guard = self._parts.fleet, self._parts.guard
        while not fleet.are_all_serving() or not guard.is_standing:
            fleet.changed.clear()
            await fleet.changed.wait()
        await self._heartbeat.turn()
        self._parts.control.tell(self._stats())  # first: whoever waited for READY asks control for `status` next
        _log.info("supervisor_ready", workers=len(fleet.slots), interception=guard.condition, version=__version__,
                  generation=self._parts.generation)  # fmt: skip
        self._parts.notifier.ready(f"{len(fleet.slots)} workers, interception {guard.condition}")

    async def _watch(self) -> None:
        """Looks for what nobody told: changed rules, units that an overflowing queue hid."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(limits.DRIFT_S):
                    await self._parts.guard.asked.wait()
            await self._look(self._reap)
            await self._look(self._end_remains)
            await self._look(self._parts.guard.check)
            if self._are_all_ours():
                await self._look(self._parts.guard.clear)
            await self._look(self._parts.units.follow)
            self._parts.fleet.changed.set()  # whoever waits for readiness looks at the guard too

    def _are_all_ours(self) -> bool:
        """Whether all serve, and nobody of an earlier generation is left who may yet call an application."""
        fleet = self._parts.fleet
        return fleet.are_all_serving() and all(worker.origin.generation == self._parts.generation for worker in fleet.living())

    def _reap(self) -> None:
        """Not while a program checks itself: that is a child of a moment, and its status is wanted."""
        if not self._is_checking:
            reap_strangers(self._ours())

    def _end_remains(self) -> None:
        """Of earlier supervisors; also what stopped since, or should have seen by now that its supervisor is gone.

        Not while a program checks itself: its helpers are no children of ours.
        """
        if self._is_checking:
            return
        if ended := end_remains(self._parts.kin, self._ours(), is_overdue=True):
            _log.warning("remains_ended", pids=ended, why="their supervisor is gone, and they do not end by themselves")

    def _ours(self) -> set[int]:
        parts, fleet = self._parts, self._parts.fleet
        helpers = {os.getpid(), parts.control.pid, parts.key_file.pid, parts.sentry.pid, fleet.spawner.pid}
        return (helpers | {worker.pid for worker in fleet.living()}) - {0}

    async def _look(self, look: Callable[[], Awaitable[None] | None]) -> None:
        """Want of a descriptor passes, and the next look sees what this one did not: no reason to end."""
        try:
            if looking := look():
                await looking
        except OSError as error:
            if self._complaint.is_due():
                _log.error("watch_failed", error=str(error), effect="changed rules and new units are seen later")

    async def _tell(self) -> None:
        """Figures for control; and what the log could not take before."""
        while True:
            sys.stderr.flush()
            self._parts.control.tell(self._stats())
            await asyncio.sleep(limits.STATS_S)

    def _stats(self) -> SupervisorStats:
        parts, hearing = self._parts, self._parts.control.hearing
        return SupervisorStats(
            pid=os.getpid(),
            version=__version__,
            started_at=parts.started_at,
            configured_at=parts.configured_at,
            interception=parts.guard.condition,
            interception_detail=parts.guard.detail,
            repairs=parts.guard.repairs,
            units=len(parts.units),
            workers=parts.fleet.facts(),
            generation=parts.generation,
            reloads_refused=self._refused,
            reload_refused=self._refusal,
            bypassed=parts.guard.bypassed,
            sentry_trouble=parts.sentry.trouble,
            unserved=parts.fleet.unserved,
            control_stalls=hearing.stalls,
            control_stalled_at=wall_clock() - parts.loop.time() + hearing.stalled_at if hearing.stalls else 0.0,
        )


def _log_defect(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception in a callback: the agent goes on, the log says where it was."""
    _log.error("callback_failed", message=context.get("message"), exc_info=context.get("exception"))
