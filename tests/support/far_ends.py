"""The far ends of control's channels, played by a test: supervisor and workers."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self, TypeVar

from nodeagent.catalog.codec import apply_delta, decode_delta, decode_snapshot
from nodeagent.control.workers import HANDOVER
from nodeagent.model.identity import KeyRing
from nodeagent.model.snapshot import Snapshot
from nodeagent.wire.frames import (
    AskConnections,
    Connections,
    DeltaFrame,
    FrameReader,
    KeysFrame,
    Message,
    SnapshotFrame,
    SupervisorStats,
    WorkerFacts,
    WorkerStats,
    encode_frame,
)
from tests.support.eventually import eventually

Kind = TypeVar("Kind")


class FarEnd:
    """One end of a stream pair, read by a thread of its own. Use with `with`."""

    def __init__(self, on_message: Callable[["FarEnd", Message], None] | None = None) -> None:
        self.sock, self.given_away = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.messages: list[Message] = []
        self.ended = threading.Event()
        self._on_message = on_message
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # control has closed it already
            self.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self.sock.close()
        self.given_away.close()

    def send(self, message: Message) -> None:
        self.sock.sendall(encode_frame(message))

    def wait(self, kind: type[Kind], fact: Callable[[Kind], object] = lambda _: True) -> Kind:
        """The first message of a kind for which `fact` holds."""

        def found() -> Kind | None:
            return next((m for m in list(self.messages) if isinstance(m, kind) and fact(m)), None)

        return eventually(found, 20, f"a {kind.__name__}")

    def _read(self) -> None:
        reader = FrameReader()
        with contextlib.suppress(OSError):  # reset: the end
            while data := self.sock.recv(1 << 16):
                for message in reader.feed(data):
                    self.messages.append(message)
                    if self._on_message:
                        self._on_message(self, message)
        self.ended.set()


def worker(rows: list | None = None) -> FarEnd:
    """A worker that answers AskConnections with `rows`."""

    def answer(end: FarEnd, message: Message) -> None:
        if isinstance(message, AskConnections):
            end.send(Connections(message.number, (rows or [])[: message.limit], len(rows or [])))

    return FarEnd(answer)


def hand_over(handover: socket.socket, number: int, pid: int, end: FarEnd) -> None:
    """Passes a worker's channel as the supervisor does."""
    socket.send_fds(handover, [HANDOVER.pack(number, pid)], [end.given_away.fileno()])
    end.given_away.close()


def snapshot_of(end: FarEnd) -> Snapshot | None:
    """What a worker has after all frames it was sent."""
    snapshot = None
    for message in list(end.messages):
        if isinstance(message, SnapshotFrame):
            snapshot = decode_snapshot(message.body)
        elif isinstance(message, DeltaFrame):
            assert snapshot is not None
            snapshot = apply_delta(snapshot, decode_delta(message.body))
    return snapshot


def ring_of(end: FarEnd) -> KeyRing | None:
    """The key material that a worker has."""
    rings = [message.ring for message in list(end.messages) if isinstance(message, KeysFrame)]
    return rings[-1] if rings else None


def worker_stats(pid: int = 4001, generation: int = 1, connections: int = 0) -> WorkerStats:
    return WorkerStats(pid, generation, connections, {"outbound": connections}, 0, 0, [], 0.001, 0)


def supervisor_stats(interception: str = "active", **facts) -> SupervisorStats:
    workers = facts.get("workers", [WorkerFacts(0, 4001, 0.0, 0, "serving")])
    named = {name: facts[name] for name in ("sentry_trouble", "control_stalls", "control_stalled_at") if name in facts}
    return SupervisorStats(4000, "0.1.0", 0.0, interception, facts.get("detail", ""), 0, 2, workers, **named)
