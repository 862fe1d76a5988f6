"""One worker as the supervisor sees it: its state, its channel, its requests, its end."""

import asyncio
import math
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

from nodeagent import limits
from nodeagent.errors import FrameError
from nodeagent.observe.log import open_log
from nodeagent.process.channel import WorkerChannel
from nodeagent.process.child import Process
from nodeagent.process.handover import PassedWorker
from nodeagent.process.lifeline import Holder, Keep, make_lifeline, name_of
from nodeagent.process.listeners import ListenerSocket
from nodeagent.process.orphans import born_tick
from nodeagent.process.prepared import PreparedSockets
from nodeagent.process.seldom import Seldom
from nodeagent.wire import requests
from nodeagent.wire.requests import OwnerAnswer, OwnerQuestion

FindOwner = Callable[[OwnerQuestion, Callable[[OwnerAnswer], None]], None]
"""Answers a worker's question, now or a little later."""

_log = open_log()


class State(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"
    STANDBY = "standby"
    """It could serve, and has no sockets to accept from."""
    OPENING = "opening"
    """It was given some, and has not said that it accepts."""
    SERVING = "serving"
    DRAINING = "draining"
    DEAD = "dead"


class Event(StrEnum):
    """What moves it on."""

    READY = "ready"
    LISTEN = "listen"
    ACCEPT = "accept"
    DRAIN = "drain"
    END = "end"


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.STARTING: {Event.READY: State.STANDBY, Event.DRAIN: State.DRAINING, Event.END: State.DEAD},
    State.STANDBY: {
        Event.READY: State.STANDBY, Event.LISTEN: State.OPENING, Event.DRAIN: State.DRAINING, Event.END: State.DEAD,
    },
    State.OPENING: {
        Event.READY: State.OPENING, Event.ACCEPT: State.SERVING, Event.DRAIN: State.DRAINING, Event.END: State.DEAD,
    },
    State.SERVING: {Event.READY: State.SERVING, Event.DRAIN: State.DRAINING, Event.END: State.DEAD},
    State.DRAINING: {
        Event.READY: State.DRAINING, Event.ACCEPT: State.DRAINING, Event.DRAIN: State.DRAINING, Event.END: State.DEAD,
    },
    State.DEAD: {},
}  # fmt: skip


class Ends(NamedTuple):
    """The far ends of a worker's two channels, for whoever they are passed to."""

    supervisor: socket.socket
    control: socket.socket

    def close(self) -> None:
        """Closes our copies."""
        self.supervisor.close()
        self.control.close()


@dataclass(frozen=True, slots=True)
class WorkerCalls:
    """What a worker's process needs of others."""

    find_owner: FindOwner
    on_ready: Callable[["WorkerProcess"], None]
    """It could serve, or it does."""
    renew: Callable[["WorkerProcess"], None]
    """It has no channel to control: makes one and hands both ends over."""
    on_end: Callable[["WorkerProcess", int | None], None]
    keep: Keep | None = None
    """None: there is no service manager."""
    forget: Callable[[str], None] = lambda _: None
    """It keeps nothing under that name any more."""


class Origin(NamedTuple):
    """Where a worker comes from."""

    generation: int = 1
    """Of the agent."""
    version: str = ""
    started_at: float = 0.0
    """Unix seconds."""


_UNKNOWN = Origin()


class WorkerProcess:
    """A worker from the order to its end, or from the day it was inherited. Owned by the fleet."""

    killed_at = math.inf
    """When it was killed, once it was."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, number: int, serial: int, calls: WorkerCalls,
        origin: Origin = _UNKNOWN, passed: PassedWorker | None = None,
    ) -> None:  # fmt: skip
        """Makes its channels, unless a predecessor has `passed` it on.

        Raises:
            OSError: no descriptor is left.
        """
        self.number = number
        self.serial = serial
        """Of the order for it."""
        self.origin = origin
        self.pid = 0
        self.state = State.STARTING
        self.is_informed = False
        """Whether it decides as well as those that serve."""
        self.drain_until = 0.0
        """Of the loop's clock: when what it still carries is closed; 0: that is not set."""
        self.born_at = self.answered_at = self.told_at = loop.time()
        """Of the loop's clock; `answered_at`: when it was asked what it answered last; `told_at`: when it was given sockets, once it was."""
        self.for_control: socket.socket | None = None
        """Control's end of the worker's other channel, until it is handed over."""
        self._lifeline = passed.lifeline if passed else ""
        """What the service manager calls the one that it keeps."""
        self._loop, self._calls = loop, calls
        self._process: Process | None = None
        self._said: set[bytes] = set()
        """Messages that came and may come once."""
        self._end: asyncio.TimerHandle | None = None
        self._renew_at = float("-inf")
        self._renewal: asyncio.TimerHandle | None = None
        self._lost_control = Seldom(loop.time)
        self.ends: Ends | None = None
        ours = socket.socket(fileno=passed.channel) if passed else self._make_channels()
        self._channel = WorkerChannel(loop, ours, self._hear, self._lose)
        self._prepared = PreparedSockets(loop, number, self._channel)
        self._handlers = self._handlers_by_kind()

    @classmethod
    def inherit(cls, loop: asyncio.AbstractEventLoop, passed: PassedWorker, calls: WorkerCalls) -> Self:
        """The worker as a predecessor knew it."""
        origin = Origin(passed.generation, passed.version, passed.started_at)
        worker = cls(loop, passed.number, passed.serial, calls, origin, passed)
        worker.state, worker.is_informed, worker.drain_until = State(passed.state), passed.is_informed, passed.drain_until
        worker.pid, worker._process = passed.pid, Process(loop, passed.pid, passed.pidfd, worker._see_end)
        worker._end_by(passed.drain_until)
        worker._prepared.go_on(passed.asks)
        if worker.state == State.DRAINING:  # the order may have waited for room when its predecessor left
            worker.drain(max(1.0, worker.drain_until - loop.time()) if worker.drain_until else 0.0)
        if not worker._lifeline:
            worker._give_lifeline()
        return worker

    def pass_on(self) -> PassedWorker:
        """What a successor needs to go on with it; its descriptors stay open here."""
        assert self._process is not None
        generation, version, started_at = self.origin
        return PassedWorker(
            self.number, self.serial, self.pid, self._process.fileno(), self._channel.fileno(), str(self.state), self.is_informed,
            generation, version, started_at, self.drain_until, self._prepared.asks, self._lifeline,
        )  # fmt: skip

    def _handlers_by_kind(self) -> Mapping[int, Callable[[bytes], None]]:
        return {
            requests.WANT_SOCKETS: self._prepared.note_ask,
            requests.WANT_OWNER: self._answer_owner,
            requests.PONG: self._note_pong,
            requests.READY: self._note_ready,
            requests.SERVING: self._note_serving,
            requests.DRAINED: self._note_drained,
            requests.RENEW: self._renew_soon,
            requests.ORPHANED: self._note_orphaned,
        }

    @property
    def has_ended(self) -> bool:
        """Whether its process is gone, though it may not have been said why."""
        return self.state == State.DEAD or (self._process is not None and self._process.ended.is_set())

    @property
    def has_channel(self) -> bool:
        """Whether it can be told anything, and a successor of ours could go on with it."""
        return self._channel.is_open

    @property
    def has_unsent(self) -> bool:
        """Whether something waits for room in its channel."""
        return self._channel.has_unsent

    def listen(self, listeners: Sequence[ListenerSocket]) -> None:
        """Gives it these to accept from; our copies stay open."""
        self._move(Event.LISTEN)
        self.answered_at = self.told_at = self._loop.time()
        kinds = requests.encode_listen((each.kind, each.family) for each in listeners)
        self._channel.send(kinds, [each.sock for each in listeners], are_lent=True)

    def pause(self) -> None:
        """It is told that answers come late until the next ping."""
        self._channel.send(requests.encode_beat(requests.PAUSE))

    def spawned(self, pid: int, pidfd: int) -> None:
        """It lives."""
        self.pid = pid
        self._process = Process(self._loop, pid, pidfd, self._see_end)
        _log.info("worker_started", worker=self.number, pid=pid)
        self._give_lifeline()

    def _give_lifeline(self) -> None:
        """Without one it finishes what it carries without a word of policy, should this process crash."""
        if self._calls.keep is None:
            return
        name = name_of(Holder(self.serial, self.number, self.pid, born_tick(self.pid), *self.origin))
        try:
            theirs = make_lifeline(name, self._calls.keep)
        except OSError as error:
            _log.warning("lifeline_not_made", worker=self.number, pid=self.pid, error=str(error))
            return
        self._lifeline = name
        self._channel.send(requests.encode_beat(requests.LIFELINE), [theirs])

    def ping(self) -> None:
        """Asks whether its loop turns."""
        self._channel.send(requests.encode_ping(self._loop.time()))

    def tell_unit(self, mark: int, unit: str) -> None:
        """Connections with `mark` are this unit's."""
        self._channel.send(requests.encode_unit(mark, unit))

    def drain(self, within_s: float = 0.0) -> None:
        """No new connections; it ends when the open ones have, or closes them after so many seconds; 0: does not."""
        self._move(Event.DRAIN)
        if within_s:
            until = self._loop.time() + within_s
            self._end_by(min(until, self.drain_until or until))
        self._channel.send(requests.encode_beat(requests.DRAIN, math.ceil(within_s)))

    def _end_by(self, at: float) -> None:
        """Should it not end by itself, it is ended."""
        self.drain_until = at
        if self._end:
            self._end.cancel()
        self._end = self._loop.call_at(at + 2 * limits.CUT_SPREAD_S, self.kill) if at else None

    def renew_control(self) -> socket.socket:
        """Control's end of a new channel between this worker and control; the worker gets the other.

        Raises:
            OSError: no descriptor is left.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._channel.send(requests.encode_beat(requests.CONTROL), [theirs])
        return ours

    def kill(self) -> None:
        """Ends it at once; what follows is as if it had crashed."""
        if self._process:
            self.killed_at = min(self.killed_at, self._loop.time())
            self._process.signal(signal.SIGKILL)
        else:
            self.finish(None)

    def finish(self, code: int | None) -> None:
        """It has ended, or was never born."""
        if self.state == State.DEAD:
            return
        self._move(Event.END)
        self._channel.close()
        if self.ends:
            self.ends.close()
        if self._end:
            self._end.cancel()
        self._prepared.stop()
        if self._renewal:
            self._renewal.cancel()
        if self.for_control:
            self.for_control.close()
            self.for_control = None
        if self._lifeline:
            self._calls.forget(self._lifeline)
        self._calls.on_end(self, code)

    def _see_end(self, code: int | None) -> None:
        """By pidfd. The code is the spawner's to tell, which does so at once; without a spawner nobody knows it."""
        if code is None:
            self._loop.call_later(limits.EXIT_CODE_S, self.finish, None)
        else:
            self.finish(code)

    def _hear(self, data: bytes) -> None:
        handler = self._handlers.get(data[0])
        if handler is None:
            raise FrameError(f"kind {data[0]}")
        handler(data)

    def _lose(self, why: str) -> None:
        """A worker without a channel cannot be drained or asked: it is replaced. One that drains may be ending just now."""
        if self.state == State.DRAINING:
            self._loop.call_later(limits.CUT_S, self._cut, why)
        else:
            self._cut(why)

    def _cut(self, why: str) -> None:
        if not self.has_ended:
            _log.error("worker_channel_lost", worker=self.number, pid=self.pid, why=f"it {why}")
            self.kill()

    def _renew_soon(self, data: bytes) -> None:
        """At once, but not more often than each RENEW_GAP_S; asked meanwhile, once more at the end of it."""
        requests.decode_beat(data)
        if self._renewal is None:
            self._renewal = self._loop.call_at(max(self._renew_at, self._loop.time()), self._renew)

    def _renew(self) -> None:
        self._renewal = None
        self._renew_at = self._loop.time() + limits.RENEW_GAP_S
        if self._lost_control.is_due():
            _log.warning("worker_lost_control", worker=self.number, pid=self.pid)
        self._calls.renew(self)

    def _answer_owner(self, data: bytes) -> None:
        self._calls.find_owner(requests.decode_question(data), self._tell_owner)

    def _tell_owner(self, answer: OwnerAnswer) -> None:
        self._channel.send(requests.encode_answer(answer))

    def _note_pong(self, data: bytes) -> None:
        """It counts from the question: it may have waited here while this process had no turn, and the worker hung."""
        self.answered_at = max(self.answered_at, requests.decode_pong(data, self._loop.time()))

    def _note_ready(self, data: bytes) -> None:
        self._expect_once(data)
        self._move(Event.READY)
        self.is_informed = self.is_informed or bool(requests.decode_beat(data))
        self._calls.on_ready(self)

    def _note_serving(self, data: bytes) -> None:
        self._expect_once(data)
        self._move(Event.ACCEPT)
        _log.info("worker_ready", worker=self.number, pid=self.pid, seconds=round(self._loop.time() - self.born_at, 3))
        self._calls.on_ready(self)

    def _note_drained(self, data: bytes) -> None:
        self._expect_once(data)
        if self.state != State.DRAINING:
            raise FrameError(f"drained while {self.state}")
        _log.info("worker_drained", worker=self.number, pid=self.pid)

    def _note_orphaned(self, data: bytes) -> None:
        """A supervisor of before may have set it a nearer end."""
        if self.state != State.DRAINING:
            raise FrameError(f"orphaned while {self.state}")
        self._end_by(min(self.drain_until or math.inf, max(self._loop.time(), requests.decode_beat(data))))

    def _expect_once(self, data: bytes) -> None:
        """Each makes a line in the log: a worker that was taken over does not fill the disk by it."""
        if data in self._said or requests.decode_beat(data) > 1:
            raise FrameError(f"kind {data[0]} for the second time")
        self._said.add(data)

    def _make_channels(self) -> socket.socket:
        """Our end of the channel to the worker; control's end of its other one, and the worker's two, are kept for a while."""
        ours, self.for_control, self.ends = _new_channels()
        return ours

    def _move(self, event: Event) -> None:
        state = TRANSITIONS[self.state].get(event)
        if state is None:
            raise FrameError(f"{event} while {self.state}")
        self.state = state


def _new_channels() -> tuple[socket.socket, socket.socket, Ends]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        for_control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError:
        ours.close()
        theirs.close()
        raise
    return ours, for_control, Ends(theirs, control)
