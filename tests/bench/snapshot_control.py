"""Control at work for the bench: what it heard is put in place by hand, all that follows from it is the agent's own."""

import asyncio
import random
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection

import msgspec
import uvloop

from certs.bundle import TrustBundle
from certs.local_ca import LocalCa
from nodeagent import limits
from nodeagent.catalog.state import CatalogState, IntentionRow
from nodeagent.catalog.traffic import ROUTING
from nodeagent.config import Config
from nodeagent.control.agent import Control
from nodeagent.control.consul import Catalog
from nodeagent.control.environment import real_environment
from nodeagent.control.trust import Trust
from nodeagent.control.workers import Link
from nodeagent.observe.log import configure_log
from nodeagent.observe.sink import Sink, unbuffered
from nodeagent.wire.frames import DeltaFrame, Message, SnapshotFrame
from tests.bench import meshes
from tests.bench.loops import LoopFigures, LoopWatch
from tests.bench.snapshot_worker import InForce, Said

DOMAIN = "bench.consul"
REST_S = (0.03, 0.13)
"""Between two changes: uneven, so that they meet everything that happens now and then."""
DEADLINE_S = 60.0


class Stage(msgspec.Struct, frozen=True):
    """What one kind of work cost."""

    name: str
    latencies_ms: list[float]
    """From the change to its being in force in the worker, each."""
    sent: list[int]
    """Bytes of each snapshot or delta."""
    control: LoopFigures
    worker: LoopFigures


class Scene:
    """Control, and the other end of the worker's pipe. Owned by control's loop."""

    def __init__(self, control: Control, pipe: Connection, watch: LoopWatch) -> None:
        self.control = control
        self.seen = control.follower.seen
        self.sent: list[int] = []
        self._pipe = pipe
        self._watch = watch
        self._said: asyncio.Queue[Said] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(pipe.fileno(), lambda: self._said.put_nowait(pipe.recv()))

    async def change(self, make: Callable[[], None]) -> float:
        """Milliseconds until the worker has what `make` changes."""
        began = time.monotonic()
        make()
        self.control.follower.changed.set()
        async with asyncio.timeout(DEADLINE_S):
            said = await self._said.get()
        assert isinstance(said, InForce)
        return 1000 * (said.at - began)

    async def stage(self, name: str, changes: list[Callable[[], None]], settle_s: float) -> Stage:
        """Makes the changes one after another, and says what they cost, with what follows within `settle_s`."""
        await self._figures()
        self.sent.clear()
        latencies = []
        for change in changes:
            latencies.append(await self.change(change))
            await asyncio.sleep(random.uniform(*REST_S))
        await asyncio.sleep(settle_s)
        return Stage(name, latencies, self.sent.copy(), *await self._figures())

    async def _figures(self) -> tuple[LoopFigures, LoopFigures]:
        self._pipe.send("")
        theirs = await self._said.get()
        assert isinstance(theirs, LoopFigures)
        return self._watch.take(), theirs

    def count(self, link: Link) -> None:
        """Has the bytes that go to the worker counted."""
        channel = link.channel
        assert channel is not None
        send = channel.send

        def counting(message: Message) -> None:
            if isinstance(message, SnapshotFrame | DeltaFrame):
                self.sent.append(len(message.body))
            send(message)

        setattr(channel, "send", counting)  # noqa: B010 - a bench looks over its shoulder


class Changes:
    """One change of each kind after another."""

    def __init__(self, scene: Scene, size: meshes.Size, state: CatalogState) -> None:
        self._seen = scene.seen
        self._size = size
        self._hosts = state.hosts
        self._turn = 0

    def endpoint(self) -> None:
        """One instance becomes ill, as when its check fails."""
        self._turn += 1
        name = meshes.service(self._turn * 7919 % self._size.services)
        first, *rest = self._seen.instances[name]
        ill = msgspec.structs.replace(first.instance, healthy=not first.instance.healthy)
        self._seen.instances[name] = (msgspec.structs.replace(first, instance=ill), *rest)

    def moved(self) -> None:
        """One instance is gone, and another one is there on another host."""
        self._turn += 1
        number = self._turn * 7919 % self._size.services
        name = meshes.service(number)
        _, *rest = self._seen.instances[name]
        self._seen.instances[name] = (*rest, meshes.row(self._hosts, number, self._turn * 31, self._size))

    def here(self) -> None:
        """Another instance on this host, of another service each time."""
        self._turn += 1
        number = self._turn * 7919 % self._size.services
        name = meshes.service(number)
        self._seen.instances[name] = (*self._seen.instances[name], meshes.row(self._hosts[:1], number, 0, self._size))

    def intention(self) -> None:
        """One more intention."""
        self._turn += 1
        row = IntentionRow(meshes.service(self._turn), meshes.service(self._turn * 7919 % self._size.services), "deny")
        self._seen.intentions = (*(self._seen.intentions or ()), row)

    def service(self) -> None:
        """A service that is new, with its endpoints."""
        self._turn += 1
        number = self._size.services + self._turn
        rows = tuple(meshes.row(self._hosts, number, n, self._size) for n in range(self._size.endpoints))
        self._seen.names = (*(self._seen.names or ()), meshes.service(number))
        self._seen.instances[meshes.service(number)] = rows


class Plan(msgspec.Struct, frozen=True):
    """What is done."""

    size: meshes.Size
    changes: int
    """Of each kind."""
    settle_s: float
    """Seconds after the last, in which what was changed is saved."""


def run(config: Config, plan: Plan, sock: socket.socket, pipes: tuple[Connection, Connection]) -> None:
    """Says what was measured: memory at the start, then each Stage, then None. pipes: to the worker, to who asked."""
    with Sink(unbuffered(sys.stderr.fileno())) as journal, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        configure_log("control", "warning", journal)
        sys.setswitchinterval(limits.SWITCH_S)  # as `nodeagent.control.__main__`
        runner.run(_measure(config, plan, sock, pipes))


async def _measure(config: Config, plan: Plan, sock: socket.socket, pipes: tuple[Connection, Connection]) -> None:
    to_worker, asker = pipes
    env, watch = real_environment(), LoopWatch()
    async with Catalog(config.catalog, env.now) as catalog:
        control = Control(config, catalog, env, None, None)
        scene = Scene(control, to_worker, watch)
        asker.send(await scene.stage("idle", [], 0.0))
        state = _hear(control, plan.size)
        await control.workers.adopt(1, 1, sock)
        scene.count(control.workers.links[0])
        running = [asyncio.ensure_future(part()) for part in (watch.run, control.compile, control.publisher.save)]
        make = Changes(scene, plan.size, state)
        asker.send(await scene.stage("whole", [lambda: None], plan.settle_s))
        for kind in (make.endpoint, make.moved, make.here, make.intention, make.service):
            asker.send(await scene.stage(kind.__name__, [kind] * plan.changes, plan.settle_s))
        asker.send(None)
        for task in running:
            task.cancel()


def _hear(control: Control, size: meshes.Size) -> CatalogState:
    """As if all of the catalog's answers had come."""
    state, seen = meshes.catalog_of(size), control.follower.seen
    seen.hosts, seen.names, seen.intentions = state.hosts, tuple(state.instances), state.intentions
    seen.protocols, seen.default_protocol = dict(state.protocols), state.default_protocol
    seen.instances = dict(state.instances)
    control.follower.entries._heard |= {*ROUTING}  # there are none
    root = LocalCa.create(DOMAIN, datetime.now(tz=UTC)).cert_pem
    control.identity.trust = Trust(TrustBundle(DOMAIN, (root,)), "root", frozenset({"root"}))
    return state
