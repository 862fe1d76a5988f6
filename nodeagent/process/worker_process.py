"""One worker as the supervisor sees it: its state, its channel, its requests, its end."""

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from nodeagent import limits
from nodeagent.errors import FrameError
from nodeagent.observe.log import open_log
from nodeagent.process.channel import WorkerChannel
from nodeagent.process.child import Process
from nodeagent.process.listeners import make_prepared_socket
from nodeagent.process.seldom import Seldom
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


@dataclass(frozen=True, slots=True)
class WorkerCalls:
    """What a worker's process needs of others."""

    find_owner: FindOwner
    on_ready: Callable[[], None]
    renew: Callable[["WorkerProcess"], None]
    """It has no channel to control: makes one and hands both ends over."""
    on_end: Callable[["WorkerProcess", int | None], None]


class WorkerProcess:
    """A worker from the order to its end. Owned by the fleet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, number: int, serial: int, calls: WorkerCalls) -> None:
        """Makes its channels.

        Raises:
            OSError: no descriptor is left.
        """
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
        self._calls = calls
        self._process: Process | None = None
        self._said: set[int] = set()
        """Kinds of messages that came and may come once."""
        self._renew_at = float("-inf")
        self._renewal: asyncio.TimerHandle | None = None
        self._asks = {4: 0, 6: 0}
        """Batches that are still to be made, by family: one that has no sockets does not hold up the other."""
        self._shortages = {family: Seldom(loop.time) for family in self._asks}
        self._lost_control = Seldom(loop.time)
        ours, self.for_control, self.ends = _make_channels()
        self._channel = WorkerChannel(loop, ours, self._hear, self._lose)
        self._handlers: Mapping[int, Callable[[bytes], None]] = {
            requests.WANT_SOCKETS: self._give_sockets,
            requests.WANT_OWNER: self._answer_owner,
            requests.PONG: self._note_pong,
            requests.READY: self._note_ready,
            requests.DRAINED: self._note_drained,
            requests.RENEW: self._renew_soon,
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
        self._asks = dict.fromkeys(self._asks, 0)
        if self._renewal:
            self._renewal.cancel()
        if self.for_control:
            self.for_control.close()
            self.for_control = None
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
        """A worker without a channel cannot be drained or asked: it is replaced."""
        if self.state in (State.STARTING, State.SERVING):
            _log.error("worker_channel_lost", worker=self.number, pid=self.pid, why=f"it {why}")
            self.kill()

    def _give_sockets(self, data: bytes) -> None:
        """Notes the ask; one batch of each family is made per turn of the loop."""
        family = requests.decode_family(data)
        if self._asks[family] < limits.PREPARED_ASKS:
            self._asks[family] += 1
            if self._asks[family] == 1:
                self._loop.call_soon(self._give_batch, family)

    def _give_batch(self, family: int) -> None:
        if not self._asks[family]:
            return
        answer = requests.encode_family(requests.SOCKETS, family)
        if self._channel.has_waiting(answer):  # the worker has not read the last one: this ask waits behind it
            self._loop.call_later(limits.RESEND_S, self._give_batch, family)
            return
        batch = self._prepared(family)
        is_whole = len(batch) == limits.PREPARED_SOCKETS
        self._channel.send(answer, batch)
        # The ask counts as long as it holds back the next.
        self._loop.call_later(0 if is_whole else limits.PREPARED_AGAIN_S, self._give_next, family)

    def _give_next(self, family: int) -> None:
        if self._asks[family]:
            self._asks[family] -= 1
        self._give_batch(family)

    def _prepared(self, family: int) -> list[socket.socket]:
        """A batch; fewer when this process runs out of descriptors, so that the worker is not left waiting."""
        batch: list[socket.socket] = []
        try:
            for _ in range(limits.PREPARED_SOCKETS):
                batch.append(make_prepared_socket(family))  # noqa: PERF401 - what was made before a failure is kept
        except OSError as error:
            if self._shortages[family].is_due():
                _log.error("prepared_sockets_failed", worker=self.number, family=family, made=len(batch), error=str(error))
        return batch

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
        requests.decode_beat(data)
        self.answered_at = self._loop.time()

    def _note_ready(self, data: bytes) -> None:
        self._expect_once(data)
        self._move(Event.READY)
        self.answered_at = self._loop.time()
        _log.info("worker_ready", worker=self.number, pid=self.pid, seconds=round(self.answered_at - self.born_at, 3))
        self._calls.on_ready()

    def _note_drained(self, data: bytes) -> None:
        self._expect_once(data)
        if self.state != State.DRAINING:
            raise FrameError(f"drained while {self.state}")
        _log.info("worker_drained", worker=self.number, pid=self.pid)

    def _expect_once(self, data: bytes) -> None:
        """Each makes a line in the log: a worker that was taken over does not fill the disk by it."""
        if data[0] in self._said:
            raise FrameError(f"kind {data[0]} for the second time")
        self._said.add(data[0])

    def _move(self, event: Event) -> None:
        state = TRANSITIONS[self.state].get(event)
        if state is None:
            raise FrameError(f"{event} while {self.state}")
        self.state = state


def _make_channels() -> tuple[socket.socket, socket.socket, Ends]:
    """Our end of the channel to the worker, control's end of its other one, and the worker's two."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        for_control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError:
        ours.close()
        theirs.close()
        raise
    return ours, for_control, Ends(theirs, control)
