"""Control as a whole: its parts, who hears what from whom, and what keeps each of them going."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from nodeagent import __version__, limits
from nodeagent.config import Config
from nodeagent.control.admin import serve_api, serve_metrics
from nodeagent.control.clock import watch_clock
from nodeagent.control.consul import Catalog
from nodeagent.control.enforce import Enforcer
from nodeagent.control.environment import Environment, real_environment
from nodeagent.control.first_use import FirstUse
from nodeagent.control.flows import FlowBook
from nodeagent.control.follow import Follower
from nodeagent.control.identity import Identity, services_spoken_for
from nodeagent.control.key_memory import hand_keys
from nodeagent.control.ledger import Ledger
from nodeagent.control.modes import ModeBook
from nodeagent.control.pace import backoff_s
from nodeagent.control.publish import News, Publisher
from nodeagent.control.supervisor import Supervisor, frame_of
from nodeagent.control.view import View
from nodeagent.control.workers import Workers
from nodeagent.model.snapshot import Snapshot
from nodeagent.observe.log import open_log
from nodeagent.observe.metrics import Metrics
from nodeagent.observe.sink import Sink, open_sink
from nodeagent.wire.frames import Records

_LOOK_AGAIN_S = 5.0  # while something is held back or a defect kept a change out: neither needs a word of the catalog

_log = open_log()


class Control:
    """The parts, made once. Owned by `run_control`."""

    def __init__(self, config: Config, catalog: Catalog, env: Environment, sink: Sink | None, journal: Sink | None) -> None:
        self._config = config
        self._catalog = catalog
        self._env = env
        self.metrics = Metrics(__version__)
        state_dir = Path(config.admin.state_dir)
        self.flows = FlowBook(state_dir / "flows", env.now)
        self.modes = ModeBook(state_dir / "modes.json", config, env.now)
        self.ledger = Ledger(
            self.metrics, self.flows, sink, env.now, is_journal=sink is not None and sink is journal
        )
        self.workers = Workers(self.metrics, want_svid=self._want_svid, on_records=self._take_records)
        self.supervisor = Supervisor(self.metrics, env.now, self.workers.note_living)
        self.publisher = Publisher(config, self.metrics, self._hand_out, env.now)
        self.publisher.indexes = catalog.saved
        self.follower = Follower(config, catalog, self.metrics, env)
        self.first_use = FirstUse(catalog, self.follower, config.host.name, self.publisher.knows_host)
        self.workers.on_want_host = self.first_use.ask
        self.identity = Identity(
            config, catalog, self.metrics, env,
            hand_out=self.workers.publish_keys, on_trust=self.follower.changed.set,
        )  # fmt: skip
        self.follower.foreign.known = self._trust_domain
        self._is_stepping = False
        self._untold: Snapshot | None = None
        """What the supervisor and those who get certificates were not told of yet."""
        self.now = env.now
        self.failing: dict[str, str] = {}
        """Parts that do not run, and why."""
        self.enforcer = Enforcer(self.modes, self.flows, self.publisher, self.workers, self.identity)
        self.view = View(
            config, env, env.now(), self.publisher, self.follower, self.identity, self.workers, self.supervisor,
            self.modes, self.ledger, self.failing,
        )

    def restore(self) -> None:
        """What was saved before this process started is in force until the catalog is heard; modes, until they are switched."""
        self.modes.restore()
        self.flows.restore()
        self.publisher.reconfigure(self.modes.config)
        self.identity.resume()
        saved = self.publisher.restore()
        if saved:
            self.follower.remember(saved.state)
            self._catalog.remember(saved.indexes)

    async def compile(self) -> None:
        """Compiles and publishes after each change, for ever; changes that come together go together."""
        while True:
            await self._next_change()
            await asyncio.sleep(limits.COMPILE_S)
            with self.first_use.rounds.one():
                try:
                    await self._publish()
                except Exception as error:  # noqa: BLE001 - a defect must not hide that what is in force is old
                    self.publisher.blame(error)

    async def _publish(self) -> None:
        try:
            state, trust = self.follower.state(), self.identity.trust
            if state is not None and trust is not None:
                await asyncio.sleep(0)
                for _ in self._stepping(self.publisher.publish_steps(state, trust.bundle.trust_domain)):
                    await asyncio.sleep(0)
        finally:  # a defect may have kept it from that; one in there keeps nothing out of force
            await self._tell_host()

    def _stepping(self, steps: Iterable[None]) -> Iterator[None]:
        """The steps; whatever else happens between two of them is none."""
        rest = iter(steps)
        while True:
            self._is_stepping = True
            try:
                next(rest)
            except StopIteration:
                return
            finally:
                self._is_stepping = False
            yield

    def _trust_domain(self) -> str:
        """The one in force; empty: none yet."""
        return self.identity.trust.bundle.trust_domain if self.identity.trust else ""

    async def _next_change(self) -> None:
        look_again = self.follower.admission.is_waiting or self.follower.alarms() or self.publisher.is_behind
        try:
            async with asyncio.timeout(_LOOK_AGAIN_S if look_again else None):
                await self.follower.changed.wait()
        except TimeoutError:
            return

    def note_catalog(self, addresses: tuple[str, ...]) -> None:
        """The catalog's name leads there."""
        self.supervisor.note_catalog(addresses)
        self.publisher.note_catalog(addresses)

    def _want_svid(self, service: str) -> str:
        return self.identity.ask(service)

    def _take_records(self, records: Records) -> None:
        self.ledger.take(records)
        calls = [row for row in records.rows if row.direction == "outbound"]
        self.identity.note_calls({row.source for row in calls})
        self.follower.note_calls({row.destination for row in calls})

    def _hand_out(self, news: News) -> None:
        self.workers.publish(news.snapshot, news.delta)
        if news.concerns_host and self._is_stepping:
            self._untold = news.snapshot
        elif news.concerns_host:
            self._untold = None
            self.supervisor.publish(news.snapshot)
            self.identity.need(services_spoken_for(news.snapshot, self._config))

    async def _tell_host(self) -> None:
        """What this host itself must know of a change. It looks at each service, and so beside the loop."""
        snapshot = self._untold
        if snapshot is None:
            return
        frame = await asyncio.to_thread(frame_of, snapshot)
        services = await asyncio.to_thread(services_spoken_for, snapshot, self._config)
        if self._untold is snapshot:  # else it was told of a newer one meanwhile
            self._untold = None
            self.supervisor.publish_frame(frame)
            self.identity.need(services)


async def run_control(
    config: Config, handover: socket.socket, supervisor: socket.socket, journal: Sink | None = None, kept: bytes = b""
) -> None:
    """Runs until SIGTERM, or until the supervisor is gone. journal: where its own log goes. kept: a predecessor's keys."""
    env = real_environment()
    asyncio.get_running_loop().set_exception_handler(_note_failure)
    async with Catalog(config.catalog, env.now, env.elapsed) as catalog:
        sink = open_sink(config.log.connections, journal)
        control = Control(config, catalog, env, sink, journal)
        catalog.on_resolved = control.note_catalog
        control.identity.remember = lambda keys: _remember(handover, keys)
        if kept:
            control.identity.restore(kept)
        control.restore()
        await control.supervisor.connect(supervisor)
        ending = _end_on_signal(control.supervisor.ended)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(keep_running(name, part, env, control.failing), name=name)
                for name, part in _parts(control, config, handover).items()
            ]
            _log.info("control_started", pid=os.getpid(), version=__version__, host=config.host.name)
            await ending.wait()
            for task in tasks:
                task.cancel()
        await control.publisher.save_rest()
        control.workers.close()
        control.supervisor.close()
        if sink and sink is not journal:
            await asyncio.to_thread(sink.close)
    _log.info("control_ended", pid=os.getpid())


def _remember(handover: socket.socket, keys: bytes) -> None:
    """A supervisor that cannot take them now is given the next ones."""
    try:
        hand_keys(handover, keys)
    except OSError as error:
        _log.warning("keys_not_kept", error=str(error), effect="a restart of the agent needs the CA until the next renewal")


def _parts(control: Control, config: Config, handover: socket.socket) -> dict[str, Callable[[], Awaitable[object]]]:
    """What runs side by side, by name."""
    parts: dict[str, Callable[[], Awaitable[object]]] = {
        "handover": lambda: control.workers.accept(handover),
        "follow": control.follower.run,
        "first-use": control.first_use.run,
        "checks": control.follower.checks.run,
        "compile": control.compile,
        "save": control.publisher.save,
        "flows": control.flows.keep,
        "flow-clock": lambda: watch_clock(control.now, control.flows.shift),
        "identity": control.identity.run,
        "admin": lambda: serve_api(config.admin, control.view, control.enforcer, control.metrics),
    }
    if config.admin.metrics:
        parts["metrics"] = lambda: serve_metrics(config.admin.metrics, control.view, control.metrics)
    return parts


async def keep_running(name: str, part: Callable[[], Awaitable[object]], env: Environment, failing: dict[str, str]) -> None:
    """Runs a part, and again after a failure, with backoff; a part that returns is done.

    failing: has its name and why it failed, until it has run for PART_WELL_S; the log has each cause once.
    """
    failures = 0
    while True:
        started_at = env.now()
        recovery = asyncio.get_running_loop().call_later(limits.PART_WELL_S, failing.pop, name, None)
        try:
            await part()
        except Exception as error:  # noqa: BLE001 - whatever fails here, the rest goes on: control outlives its parts
            failures = 1 if env.now() - started_at > limits.RESTART_RESET_S else failures + 1
            _note_failed(name, error, failing)
        else:
            failing.pop(name, None)
            return
        finally:
            recovery.cancel()
        await asyncio.sleep(backoff_s(failures, env.draw(), limits.RESTART_MAX_S))


def _note_failed(name: str, error: Exception, failing: dict[str, str]) -> None:
    cause = str(error) or type(error).__name__
    if failing.get(name) != cause:
        _log.error("part_failed", part=name, exc_info=error)
    failing[name] = cause


def _note_failure(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no one awaited. A connection that ended while it was being closed is daily life, which uvloop tells as a defect."""
    error = context.get("exception")
    if isinstance(error, OSError) or (isinstance(error, RuntimeError) and "the handler is closed" in str(error)):
        return
    _log.error("callback_failed", message=context.get("message"), exc_info=error)


def _end_on_signal(ending: asyncio.Event) -> asyncio.Event:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    return ending
