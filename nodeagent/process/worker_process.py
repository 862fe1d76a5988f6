"""One worker as the supervisor sees it: its state, its channel, its requests, its end."""

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

from nodeagent import limits
from nodeagent.errors import FrameError
from nodeagent.observe.log import open_log
from nodeagent.process.channel import WorkerChannel
from nodeagent.process.child import Process
from nodeagent.process.listeners import make_prepared_socket
from nodeagent.wire import requests
from nodeagent.wire.requests import OwnerAnswer, OwnerQuestion

FindOwner = Callable[[OwnerQuestion, Callable[[OwnerAnswer], None]], None]
"""Answers a worker's question, now or a little later."""

_log = open_log()


class State(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    DEAD = "dead"


class Event(StrEnum):
    """What moves it on."""

    READY = "ready"
    DRAIN = "drain"
    END = "end"


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.STARTING: {Event.READY: State.SERVING, Event.DRAIN: State.DRAINING, Event.END: State.DEAD},
    State.SERVING: {Event.DRAIN: State.DRAINING, Event.END: State.DEAD},
    State.DRAINING: {Event.READY: State.DRAINING, Event.DRAIN: State.DRAINING, Event.END: State.DEAD},
    State.DEAD: {},
}


class Ends(NamedTuple):
    """The far ends of a worker's two channels, for whoever they are passed to."""

    supervisor: socket.socket
    control: socket.socket

    def close(self) -> None:
        """Closes our copies."""
        self.supervisor.close()
        self.control.close()


class WorkerProcess:
    """A worker from the order to its end. Owned by the fleet."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, number: int, serial: int, find_owner: FindOwner,
        on_ready: Callable[[], None], on_end: Callable[["WorkerProcess", int | None], None],
    ) -> None:  # fmt: skip
        self.number = number
        self.serial = serial
        """Of the order for it."""
        self.pid = 0
        self.state = State.STARTING
        self.born_at = loop.time()
        self.answered_at = self.born_at
        """Of the loop's clock."""
        self.for_control: socket.socket | None = None
        """Control's end of the worker's other channel, until it is handed over."""
        self._loop = loop
        self._find_owner = find_owner
        self._on_ready = on_ready
        self._on_end = on_end
        self._process: Process | None = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.for_control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.ends = Ends(theirs, control)
        self._channel = WorkerChannel(loop, ours, self._hear, self._lose)
        self._handlers: Mapping[int, Callable[[bytes], None]] = {
            requests.WANT_SOCKETS: self._give_sockets,
            requests.WANT_OWNER: self._answer_owner,
            requests.PONG: self._note_pong,
            requests.READY: self._note_ready,
            requests.DRAINED: self._note_drained,
        }

    def spawned(self, pid: int, pidfd: int) -> None:
        """It lives."""
        self.pid = pid
        self._process = Process(self._loop, pid, pidfd, self._see_end)
        _log.info("worker_started", worker=self.number, pid=pid)

    def ping(self, number: int) -> None:
        """Asks whether its loop turns."""
        self._channel.send(requests.encode_beat(requests.PING, number))

    def tell_unit(self, mark: int, unit: str) -> None:
        """Connections with `mark` are this unit's."""
        self._channel.send(requests.encode_unit(mark, unit))

    def drain(self) -> None:
        """No new connections; it ends when the open ones have."""
        self._move(Event.DRAIN)
        self._channel.send(requests.encode_beat(requests.DRAIN))

    def renew_control(self) -> socket.socket:
        """Control's end of a new channel between this worker and control; the worker gets the other."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._channel.send(requests.encode_beat(requests.CONTROL), [theirs])
        return ours

    def kill(self) -> None:
        """Ends it at once; what follows is as if it had crashed."""
        if self._process:
            self._process.signal(signal.SIGKILL)
        else:
            self.finish(None)

    def finish(self, code: int | None) -> None:
        """It has ended, or was never born."""
        if self.state == State.DEAD:
            return
        self._move(Event.END)
        self._channel.close()
        self.ends.close()
        if self.for_control:
            self.for_control.close()
        self._on_end(self, code)

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
        """A worker without a channel cannot be drained or asked: it is replaced."""
        if self.state in (State.STARTING, State.SERVING):
            _log.error("worker_channel_lost", worker=self.number, pid=self.pid, why=f"it {why}")
            self.kill()

    def _give_sockets(self, data: bytes) -> None:
        family = requests.decode_family(data)
        answer = requests.encode_family(requests.SOCKETS, family)
        if not self._channel.has_waiting(answer):
            self._channel.send(answer, _prepared(family))

    def _answer_owner(self, data: bytes) -> None:
        self._find_owner(requests.decode_question(data), self._tell_owner)

    def _tell_owner(self, answer: OwnerAnswer) -> None:
        self._channel.send(requests.encode_answer(answer))

    def _note_pong(self, data: bytes) -> None:
        requests.decode_beat(data)
        self.answered_at = self._loop.time()

    def _note_ready(self, _data: bytes) -> None:
        self._move(Event.READY)
        self.answered_at = self._loop.time()
        _log.info("worker_ready", worker=self.number, pid=self.pid, seconds=round(self.answered_at - self.born_at, 3))
        self._on_ready()

    def _note_drained(self, _data: bytes) -> None:
        _log.info("worker_drained", worker=self.number, pid=self.pid)

    def _move(self, event: Event) -> None:
        state = TRANSITIONS[self.state].get(event)
        if state is None:
            raise FrameError(f"{event} while {self.state}")
        self.state = state


def _prepared(family: int) -> list[socket.socket]:
    """A batch; fewer when this process runs out of descriptors, so that the worker is not left waiting."""
    batch: list[socket.socket] = []
    try:
        for _ in range(limits.PREPARED_SOCKETS):
            batch.append(make_prepared_socket(family))  # noqa: PERF401 - what was made before a failure is kept
    except OSError as error:
        _log.error("prepared_sockets_failed", family=family, made=len(batch), error=str(error))
    return batch
