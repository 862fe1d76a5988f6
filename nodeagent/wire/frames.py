"""Messages between control and a worker, and between control and the supervisor: u32 length, u8 version, then MessagePack of one tagged struct.

The channel is a stream socket pair. N and N-1 talk to each other: unknown fields are ignored, an unknown tag or version
closes the channel.
"""

from collections.abc import Iterator

import msgspec

from nodeagent import limits
from nodeagent.errors import FrameError
from nodeagent.model.identity import KeyRing
from nodeagent.model.outcome import ConnectionRow, RequestRow

VERSION = 1
_HEAD_BYTES = 5


class SnapshotFrame(msgspec.Struct, tag="snapshot", frozen=True):
    """A whole snapshot, as `catalog.codec` encodes it."""

    body: bytes
    shares: bool = False
    """Whether this control knows Shared."""


class DeltaFrame(msgspec.Struct, tag="delta", frozen=True):
    """What changed since the generation that the worker has, as `catalog.codec` encodes it."""

    body: bytes


class KeysFrame(msgspec.Struct, tag="keys", frozen=True):
    """The key material that is valid from now on; replaces what the worker had."""

    ring: KeyRing


class WantSvid(msgspec.Struct, tag="want_svid", frozen=True):
    """A worker needs a certificate that it does not hold. The answer is a KeysFrame, or a SvidRefusal."""

    service: str


class SvidRefusal(msgspec.Struct, tag="no_svid", frozen=True):
    """There is none for that service now; control goes on trying, and a KeysFrame follows when there is."""

    service: str
    why: str


class WantHost(msgspec.Struct, tag="want_host", frozen=True):
    """A worker has a call to a host with an agent of which it does not know all. The answer is a HostRead, after what follows from it."""

    host: str
    wanted: int | str
    """A port at which it knows nobody, or a service that it does not know there."""


class HostRead(msgspec.Struct, tag="host_read", frozen=True):
    """What the catalog says of that is in force, or it could not be asked."""

    host: str
    wanted: int | str


class EjectionRow(msgspec.Struct, array_like=True, frozen=True):
    """An instance that one worker has ejected, and all leave alone."""

    source: str
    service: str
    subset: str
    instance: str
    left_s: float
    times: int


class PartRow(msgspec.Struct, array_like=True, frozen=True):
    """A worker's part of what a caller may have open at once."""

    source: str
    service: str
    subset: str
    kind: str
    """`requests` or `connections`."""
    limit: int
    """Of all workers together; a part of another one is of no use."""
    held: int
    """Told by control: its share. By a worker: what it may use, and what it does."""
    wanted: int = 0
    serial: int = 0
    """Of control's word; a worker repeats that of the last one it has followed."""


class Shared(msgspec.Struct, tag="shared", frozen=True):
    """What workers share about requests. A worker tells what it saw and needs, control what all are to know and each may use.

    A worker says it first, and only to a control that has said that it knows it; control answers who has said it.
    """

    ejections: list[EjectionRow] = []
    parts: list[PartRow] = []


class AskConnections(msgspec.Struct, tag="ask_connections", frozen=True):
    """Control wants the open connections: the newest, or the one of an id."""

    number: int
    limit: int
    id: str = ""


class Connections(msgspec.Struct, tag="connections", frozen=True):
    """A worker's answer to AskConnections."""

    number: int
    rows: list[ConnectionRow]
    total: int


class Records(msgspec.Struct, tag="records", frozen=True):
    """Connections that ended, in the order in which they did."""

    rows: list[ConnectionRow]
    dropped: int = 0
    """Records lost since the last batch because the queue was full."""
    requests: list[RequestRow] = []
    """Requests that are over, of those that are to be logged."""


class TunnelRow(msgspec.Struct, frozen=True):
    """One open tunnel, for `status`."""

    source: str
    destination: str
    peer: str
    side: str
    """`client` for one that this host opened, `server` for one it accepted."""
    streams: int
    opened_at: float


class RequestTally(msgspec.Struct, array_like=True):
    """Requests that went the same way, counted since the worker started."""

    direction: str
    source: str
    destination: str
    route: str
    statuses: list[int]
    """By the first digit of the status; at 0 those that ended without an answer."""
    buckets: list[int]
    """By how long they took: each up to the bound of `limits.REQUEST_SECONDS` of its place, the last beyond all."""
    seconds: float = 0.0
    """All together."""
    retries: int = 0
    denials: int = 0
    ejections: int = 0
    """Of instances, by this worker."""
    shed: int = 0
    """Refused, as the caller had as much open as it may."""


class WorkerStats(msgspec.Struct, tag="stats", frozen=True):
    """A worker's figures, once a second. Counters are totals since the worker started."""

    pid: int
    generation: int
    connections: int
    opened: dict[str, int]
    """Connections opened, by direction."""
    sent: int
    received: int
    """Bytes of open and ended connections: client to upstream, upstream to client."""
    tunnels: list[TunnelRow]
    lag_s: float
    """How late the loop's last timer was."""
    buffered: int
    """Bytes held for streams."""
    passed: list[tuple[str, str, int]] = []
    """Source, destination, and how many connections between them policy let pass; empty while nothing changed."""
    tag: str = ""
    """What ids of its connections begin with."""
    used_up: int = 0
    """As many descriptors as it may have, if they are used up; else 0."""
    requests: list[RequestTally] = []
    """Those that have changed since the last time."""


class CaptureFrame(msgspec.Struct, tag="capture", frozen=True):
    """Control to supervisor: what the catalog says is in the mesh. The supervisor checks each value before use."""

    addresses: list[str]
    """IP addresses of other hosts and of services registered elsewhere."""
    ports: list[int]
    """Ports of services registered on this host."""
    loopback_ports: list[int] = []
    """Those of them that are to be captured on loopback addresses, too."""
    fail: str = ""
    """What becomes of new connections while the agent is dead, `open` or `closed`; empty: not told, so nothing bypasses it."""
    except_endpoints: list[tuple[str, int]] = []
    """Where the other of both holds: (address, port) on other hosts."""
    except_ports: list[int] = []
    """And ports of this host."""
    catalog: list[str] = []
    """Where the catalog's name leads; empty: not known, so what was known holds."""


class NoSnapshot(msgspec.Struct, tag="no_snapshot", frozen=True):
    """Control to supervisor, as its first word where nothing was saved: workers hear no policy of it until it hears the catalog."""


class WorkerFacts(msgspec.Struct, frozen=True):
    """One worker process, for `status`."""

    number: int
    pid: int
    started_at: float
    restarts: int
    state: str
    """`starting`, `standby`, `opening`, `serving`, `draining` or `dead`."""
    generation: int = 1
    """Of the agent, not of a snapshot: each reload starts another one."""
    version: str = ""
    drain_until: float = 0.0
    """Unix seconds at which what it still carries is closed; 0: no such moment is set."""


class SupervisorStats(msgspec.Struct, tag="supervisor", frozen=True):
    """Supervisor to control, once a second."""

    pid: int
    version: str
    started_at: float
    interception: str
    """`active`, `off`, `failed` or `repaired`."""
    interception_detail: str
    repairs: int
    """How often rules were put back after something else had changed them."""
    units: int
    """Units whose connections are stamped."""
    workers: list[WorkerFacts]
    generation: int = 1
    """Of the agent: how often it was reloaded since it was started, and one."""
    reloads_refused: int = 0
    """How often this generation was asked for a reload and refused it."""
    reload_refused: str = ""
    """Why the last time."""
    configured_at: float = 0.0
    """Unix seconds since which its configuration is in force."""
    bypassed: int = 0
    """Connections that went around the agent while it was dead, as counted since this process started."""
    sentry_trouble: str = ""
    """Why no sentry watches; empty: one does."""
    control_stalls: int = 0
    """How often control has read nothing for some seconds, since this process started."""
    control_stalled_at: float = 0.0
    """Unix seconds at which that was noticed last; 0: never."""
    unserved: int = 0
    """Places of workers where nobody accepts, not only for a moment."""


Message = (
    SnapshotFrame | DeltaFrame | KeysFrame | WantSvid | SvidRefusal | WantHost | HostRead | AskConnections | Connections | Records
    | WorkerStats | CaptureFrame | NoSnapshot | SupervisorStats | Shared
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode_frame(message: Message) -> bytes:
    """The message as bytes for the channel."""
    body = _encoder.encode(message)
    return (len(body) + 1).to_bytes(4, "big") + bytes([VERSION]) + body


class FrameReader:
    """Puts messages together again from what a stream socket delivers. Owned by one channel."""

    def __init__(self, limit: int = limits.FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete with `data`.

        Raises:
            FrameError: too long, another version, or not a message; the channel must be closed.
        """
        self._buffer += data
        while len(self._buffer) >= _HEAD_BYTES:
            length = int.from_bytes(self._buffer[:4], "big")
            if not 1 < length <= self._limit:
                raise FrameError(f"a frame of {length} bytes; the limit is {self._limit}")
            if len(self._buffer) < 4 + length:
                return
            with memoryview(self._buffer) as view, view[4 : 4 + length] as body:
                message = _decode(body)  # in place: each copy of a snapshot of 7 MB holds the loop for 2 ms
            del self._buffer[: 4 + length]
            yield message


def _decode(body: memoryview) -> Message:
    """The message in a frame's body: one byte of version, then MessagePack."""
    if body[0] != VERSION:
        raise FrameError(f"frame version {body[0]}; this process speaks {VERSION}")
    try:
        return _decoder.decode(body[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:  # text in MessagePack is checked by Python
        raise FrameError(f"not a message of this protocol: {error}") from error
