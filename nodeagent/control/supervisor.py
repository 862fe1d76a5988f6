"""Control's side of the supervisor: it is told what to capture and tells how the host is."""

import asyncio
import socket
from collections.abc import Callable, Collection

import msgspec

from nodeagent.catalog.compiler import capture_of
from nodeagent.control.channel import Channel
from nodeagent.decide.bypass import exceptions_of
from nodeagent.model.snapshot import Snapshot
from nodeagent.observe.metrics import Metrics
from nodeagent.wire.frames import CaptureFrame, Message, NoSnapshot, SupervisorStats


class Supervisor:
    """The channel to the supervisor. Owned by control."""

    def __init__(self, metrics: Metrics, now: Callable[[], float], on_living: Callable[[Collection[int]], None]) -> None:
        """on_living: is told the pids of the workers that live, once a second."""
        self.stats: SupervisorStats | None = None
        self.heard_at = 0.0
        """Unix seconds of its last word."""
        self.captured: CaptureFrame | None = None
        self.catalog: tuple[str, ...] = ()
        """Where its name led last."""
        self.ended = asyncio.Event()
        """Set when the supervisor is gone."""
        self._metrics = metrics
        self._now = now
        self._on_living = on_living
        self._channel = Channel(self._hear, self._end)

    async def connect(self, sock: socket.socket) -> None:
        """Takes over the socket, and says at once what is known or that nothing is: connections may wait for that word."""
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self._channel, sock)
        self._channel.send(self.captured or NoSnapshot())

    def close(self) -> None:
        """Ends the channel."""
        self._channel.abort("control ends")

    def publish(self, snapshot: Snapshot) -> None:
        """Tells what is to be captured, when it is not what was told before."""
        self.publish_frame(frame_of(snapshot))

    def publish_frame(self, frame: CaptureFrame) -> None:
        """As `publish`. frame: as `frame_of` the snapshot, which takes a while."""
        self._tell(msgspec.structs.replace(frame, catalog=list(self.catalog)))

    def note_catalog(self, addresses: tuple[str, ...]) -> None:
        """Tells where the catalog's name leads, when it leads elsewhere than before."""
        self.catalog = addresses
        if self.captured:
            self._tell(msgspec.structs.replace(self.captured, catalog=list(addresses)))

    def _tell(self, frame: CaptureFrame) -> None:
        if frame != self.captured:
            self.captured = frame
            self._channel.send(frame)

    def _hear(self, message: Message) -> None:
        if not isinstance(message, SupervisorStats):
            self._channel.abort(f"it sent a {type(message).__name__}, which is not the supervisor's to send")
            return
        self.stats, self.heard_at = message, self._now()
        self._metrics.set_supervisor(message)
        self._on_living({worker.pid for worker in message.workers if worker.state != "dead"})

    def _end(self, _why: str) -> None:
        self.ended.set()


def frame_of(snapshot: Snapshot, catalog: tuple[str, ...] = ()) -> CaptureFrame:
    """What the kernel is to capture, and what may bypass a dead agent. `catalog`: where its name leads."""
    capture, exceptions = capture_of(snapshot), exceptions_of(snapshot)
    return CaptureFrame(
        list(capture.addresses), list(capture.ports), list(capture.loopback_ports),
        exceptions.fail, [(address.ip, address.port) for address in exceptions.endpoints], list(exceptions.ports),
        list(catalog),
    )  # fmt: skip
