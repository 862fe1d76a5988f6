"""The supervisor: root, but parses no byte from the network. Starts the others, watches them, serves two requests."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from nodeagent import __version__, limits
from nodeagent.config import Config
from nodeagent.observe.log import configure_log, open_log
from nodeagent.observe.unblocked import own_stderr, unblock_stderr
from nodeagent.process.heartbeat import Heartbeat
from nodeagent.process.notify import Notifier
from nodeagent.process.seldom import Seldom
from nodeagent.process.startup import Parts, start
from nodeagent.wire.frames import SupervisorStats

_log = open_log()


def run_supervisor(config: Config, config_path: Path) -> None:
    """Serves until SIGTERM and the end of the drain.

    Raises:
        ConfigError: it cannot be started here; nothing is left behind.
    """
    own_stderr()
    configure_log("supervisor", config.log.level, unblock_stderr("supervisor"))
    asyncio.run(_run(Parts(config, config_path)))


async def _run(parts: Parts) -> None:
    parts.loop = asyncio.get_running_loop()
    parts.loop.set_exception_handler(_log_defect)
    async with AsyncExitStack() as stack:
        start(parts, stack)
        notifier = Notifier(os.environ, os.getpid())
        stack.callback(notifier.close)
        await Supervisor(parts, notifier).serve()


class Supervisor:
    """What goes on while the agent runs. Owned by `run_supervisor`."""

    def __init__(self, parts: Parts, notifier: Notifier) -> None:
        self._parts = parts
        self._notifier = notifier
        self._heartbeat = Heartbeat(parts.loop, parts.fleet, parts.guard.beat, notifier.alive)
        self._complaint = Seldom(parts.loop.time)
        self._stop = asyncio.Event()
        self._cut = asyncio.Event()

    async def serve(self) -> None:
        """Returns when the agent was told to stop and every process it started has ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._parts.loop.add_signal_handler(number, self._note_stop, number)
        self._parts.loop.add_signal_handler(signal.SIGHUP, self._note_reload)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(job) for job in (self._heartbeat.run(), self._watch(), self._tell(), self._announce())]
            await self._stop.wait()
            await self._drain()
            for task in running:
                task.cancel()
        _log.info("supervisor_stopped")

    async def _drain(self) -> None:
        """New connections are refused first, so that none is in a queue when the queues are closed."""
        grace_s = self._parts.config.host.drain_s
        _log.info("drain_started", workers=len(self._parts.fleet.living()), grace_s=grace_s)
        self._notifier.stopping("draining")
        self._heartbeat.is_draining = True
        self._parts.guard.stop_beat()
        await self._parts.fleet.drain(grace_s, self._cut)
        await self._parts.control.stop()

    async def _announce(self) -> None:
        """Tells systemd once everybody serves."""
        fleet, guard = self._parts.fleet, self._parts.guard
        while not fleet.are_all_serving() or not guard.is_standing:
            fleet.changed.clear()
            await fleet.changed.wait()
        self._heartbeat.tick()
        _log.info("supervisor_ready", workers=len(fleet.slots), interception=guard.condition)
        self._notifier.ready(f"{len(fleet.slots)} workers, interception {guard.condition}")

    async def _watch(self) -> None:
        """Looks for what nobody told: changed rules, units that an overflowing queue hid."""
        while True:
            await asyncio.sleep(limits.DRIFT_S)
            self._look(self._parts.guard.check)
            self._look(self._parts.units.follow)
            self._parts.fleet.changed.set()  # whoever waits for readiness looks at the guard too

    def _look(self, look: Callable[[], None]) -> None:
        """Want of a descriptor passes, and the next look sees what this one did not: no reason to end."""
        try:
            look()
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
        parts = self._parts
        return SupervisorStats(
            pid=os.getpid(),
            version=__version__,
            started_at=parts.started_at,
            interception=parts.guard.condition,
            interception_detail=parts.guard.detail,
            repairs=parts.guard.repairs,
            units=len(parts.units),
            workers=parts.fleet.facts(),
            bypassed=parts.guard.bypassed,
        )

    def _note_stop(self, number: signal.Signals) -> None:
        """The second signal ends the drain."""
        _log.info("signal_received", signal=number.name, meaning="cut" if self._stop.is_set() else "drain")
        if self._stop.is_set():
            self._cut.set()
        self._stop.set()

    def _note_reload(self) -> None:
        _log.warning("reload_ignored", cure="a changed configuration takes effect with systemctl restart nodeagent")


def _log_defect(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception in a callback: the agent goes on, the log says where it was."""
    _log.error("callback_failed", message=context.get("message"), exc_info=context.get("exception"))
