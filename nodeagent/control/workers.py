"""Control's side of the workers: each gets a snapshot, then what changes; what they report is passed on."""

import asyncio
import itertools
import socket
import struct
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from nodeagent import limits
from nodeagent.catalog.codec import encode_delta, encode_snapshot
from nodeagent.catalog.diff import Delta
from nodeagent.control.channel import Channel
from nodeagent.control.shares import Shares
from nodeagent.model.identity import KeyRing
from nodeagent.model.outcome import ConnectionRow
from nodeagent.model.snapshot import Snapshot
from nodeagent.observe.log import open_log
from nodeagent.observe.metrics import Metrics
from nodeagent.wire.frames import (
    AskConnections,
    Connections,
    DeltaFrame,
    HostRead,
    KeysFrame,
    Message,
    Records,
    Shared,
    SnapshotFrame,
    SvidRefusal,
    WantHost,
    WantSvid,
    WorkerStats,
)

HANDOVER = struct.Struct("=II")
"""What comes with a worker's descriptor: its number and its pid."""

_log = open_log()


@dataclass(slots=True, eq=False)
class Link:
    """One worker, as control knows it. Owned by Workers."""

    number: int
    pid: int
    channel: Channel | None = None
    generation: int = 0
    """That of the snapshot it was sent last; 0: none."""
    stats: WorkerStats | None = None
    asked: dict[int, asyncio.Future[Connections]] = field(default_factory=dict)
    key: int = field(default_factory=itertools.count(1).__next__)
    """Of no other link."""
    shares: bool = False
    """Whether it has said that it knows Shared: one of an older version would be lost by it."""


class Workers:
    """All workers that have a channel. Owned by control."""

    def __init__(self, metrics: Metrics, *, want_svid: Callable[[str], str], on_records: Callable[[Records], None]) -> None:
        self.links: list[Link] = []
        self.cut: str = ""
        """Why the last worker that was cut off was."""
        self.on_want_host: Callable[[str, int | str, Callable[[], None]], None] = lambda _host, _wanted, answer: answer()
        """Is told of which port of a host, or service there, a worker wants news, and what to call once they are in force."""
        self.shares = Shares()
        self._unclear: list[Link] = []
        """Links that ended with connections open: their workers have died, or come back with another channel."""
        self._metrics = metrics
        self._want_svid = want_svid
        self._on_records = on_records
        self._snapshot: Snapshot | None = None
        self._ring: KeyRing | None = None
        self._question = 0

    async def accept(self, handover: socket.socket) -> None:
        """Takes over workers' channels as the supervisor passes them, until it ends."""
        handover.setblocking(False)
        while True:
            passed = await _receive(handover)
            if passed is None:
                return
            await self.adopt(*passed)

    async def adopt(self, number: int, pid: int, sock: socket.socket) -> None:
        """Starts to serve a worker: its keys and its snapshot go out at once."""
        link = Link(number, pid)
        link.channel = Channel(
            lambda message: self._hear(link, message), lambda why: self._lose(link, why),
            frame_bytes=limits.WORKER_FRAME_BYTES,
        )  # fmt: skip
        self._unclear = [lost for lost in self._unclear if (lost.number, lost.pid) != (number, pid)]
        self.links.append(link)  # before the wait, in which the worker may die and be taken out again
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: _channel_of(link), sock)
        except (OSError, ValueError) as error:
            self.links.remove(link)
            sock.close()
            _log.error("handover_refused", worker=number, pid=pid, error=str(error))
            return
        if self._ring:
            link.channel.send(KeysFrame(self._ring))
        if self._snapshot:
            link.channel.send(SnapshotFrame(encode_snapshot(self._snapshot), shares=True))
            link.generation = self._snapshot.generation
        _log.info("worker_adopted", worker=number, pid=pid)

    def close(self) -> None:
        """Ends all channels; workers go on with what they have."""
        for link in list(self.links):
            _channel_of(link).abort("control ends")

    def publish(self, snapshot: Snapshot, delta: Delta | None) -> None:
        """Sends each worker what it needs to get to `snapshot`; each frame is encoded once."""
        self._snapshot = snapshot
        part = DeltaFrame(encode_delta(delta)) if delta else None
        whole: SnapshotFrame | None = None
        for link in list(self.links):
            if delta and part and link.generation == delta.base:
                _channel_of(link).send(part)
            else:
                whole = whole or SnapshotFrame(encode_snapshot(snapshot), shares=True)
                _channel_of(link).send(whole)
            link.generation = snapshot.generation

    def publish_keys(self, ring: KeyRing) -> None:
        """Sends the key material to all workers."""
        self._ring = ring
        for link in list(self.links):
            _channel_of(link).send(KeysFrame(ring))

    async def open_connections(self, limit: int, id_: str = "") -> tuple[list[ConnectionRow], int, int]:
        """At most `limit` open connections of each worker, or the one of an id; how many there are; how many workers did not answer."""
        self._question = question = self._question + 1  # another one may be put while this one waits
        waiting = {link: asyncio.get_running_loop().create_future() for link in self.links}
        for link, future in waiting.items():
            link.asked[question] = future
            _channel_of(link).send(AskConnections(question, limit, id_))
        if waiting:
            await asyncio.wait(waiting.values(), timeout=limits.API_ASK_S)
        for link in waiting:
            link.asked.pop(question, None)
        answers = [f.result() for f in waiting.values() if f.done() and not f.cancelled()]
        rows = [row for answer in answers for row in answer.rows]
        return rows, sum(answer.total for answer in answers), len(waiting) - len(answers)

    def note_living(self, pids: Collection[int]) -> None:
        """The supervisor's word on which workers live: what a dead one carried leaves no record, so it is told here."""
        for link in [link for link in self._unclear if link.pid not in pids]:
            self._unclear.remove(link)
            number = link.stats.connections if link.stats else 0
            self._metrics.add("nodeagent_connections_lost_total", number)
            _log.error("connections_lost", worker=link.number, pid=link.pid, number=number, why="the worker died; both sides saw a reset")

    def _hear(self, link: Link, message: Message) -> None:
        """What a worker says."""
        match message:
            case Records():
                self._on_records(message)
            case WorkerStats():
                link.stats = message
                self._metrics.set_worker(link.number, link.pid, message)
            case Connections():
                future = link.asked.get(message.number)
                if future and not future.done():
                    future.set_result(message)
            case Shared():
                link.shares = True
                others = [each.key for each in self.links if each.shares]
                self._tell(self.shares.hear(link.key, message, others, time.monotonic()))
            case WantSvid(service):
                if why := self._want_svid(service):
                    _channel_of(link).send(SvidRefusal(service, why))
            case WantHost(host, wanted):
                self.on_want_host(host, wanted, lambda: _channel_of(link).send(HostRead(host, wanted)))
            case _:
                _channel_of(link).abort(f"it sent a {type(message).__name__}, which is not a worker's to send")

    def _tell(self, told: Mapping[int, Shared]) -> None:
        """What workers are to know of each other."""
        for link in [each for each in self.links if each.key in told]:
            _channel_of(link).send(told[link.key])

    def _lose(self, link: Link, why: str) -> None:
        if link in self.links:
            self.links.remove(link)
        self._tell(self.shares.forget(link.key))
        for future in link.asked.values():
            future.cancel()
        if link.stats and link.stats.connections:
            self._unclear.append(link)
        self._metrics.forget_worker(link.number, link.pid)
        if "not read" in why:
            self.cut = f"worker {link.number} (pid {link.pid}) was cut off: {why}"
        _log.info("worker_lost", worker=link.number, pid=link.pid, why=why)


def _channel_of(link: Link) -> Channel:
    assert link.channel is not None
    return link.channel


async def _receive(handover: socket.socket) -> tuple[int, int, socket.socket] | None:
    """The next worker's number, pid and socket; None when the supervisor is gone."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(handover, HANDOVER.size, 1)
        except BlockingIOError:
            await _readable(loop, handover)
            continue
        except ConnectionError:
            return None
        if not data:
            return None
        if len(fds) == 1 and len(data) == HANDOVER.size:
            number, pid = HANDOVER.unpack(data)
            return number, pid, socket.socket(fileno=fds[0])
        for fd in fds:
            socket.close(fd)
        _log.error("handover_refused", received=len(data), descriptors=len(fds))


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
