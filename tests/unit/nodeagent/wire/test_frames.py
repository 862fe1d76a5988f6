"""Messages between our own processes, put together from a stream."""

import msgspec
import pytest

from nodeagent import limits
from nodeagent.errors import FrameError
from nodeagent.model.identity import KeyRing, SvidKeys
from nodeagent.model.outcome import ConnectionRow
from nodeagent.wire.frames import (
    VERSION,
    AskConnections,
    CaptureFrame,
    Connections,
    DeltaFrame,
    EjectionRow,
    FrameReader,
    HostRead,
    KeysFrame,
    Message,
    NoSnapshot,
    PartRow,
    Records,
    Shared,
    SnapshotFrame,
    SupervisorStats,
    TunnelRow,
    WantHost,
    WantSvid,
    WorkerFacts,
    WorkerStats,
    encode_frame,
)

ROW = ConnectionRow(id="1-1", direction="outbound", client="10.0.0.1:5", original_dst="10.0.0.2:80", opened_at=1.0)
MESSAGES: list[Message] = [
    SnapshotFrame(b"\x00\xff"),
    DeltaFrame(b""),
    KeysFrame(KeyRing("td", "roots", (SvidKeys("web", "chain", "key", 2.0),))),
    WantSvid("shop"),
    WantHost("host2", 9001),
    HostRead("host2", "web"),
    AskConnections(7, 100),
    Connections(7, [ROW], 1),
    Records([ROW, ROW], 3),
    WorkerStats(1, 2, 3, {"outbound": 4}, 5, 6, [TunnelRow("a", "b", "host2", "client", 1, 0.5)], 0.0, 0),
    CaptureFrame(["10.0.0.2"], [80]),
    NoSnapshot(),
    Shared([EjectionRow("shop", "web", "v1", "h1/web-1", 29.5, 2)], [PartRow("shop", "web", "", "requests", 8, 2, 3, 7)]),
    SnapshotFrame(b"", shares=True),
    SupervisorStats(1, "0.1.0", 0.0, "active", "", 0, 2, [WorkerFacts(1, 10, 0.0, 0, "serving")]),
]


def test_every_message_survives_whole() -> None:
    """All of one stream in one piece."""
    assert MESSAGES == list(FrameReader().feed(b"".join(map(encode_frame, MESSAGES))))


def test_every_message_survives_byte_by_byte() -> None:
    """A stream socket delivers as it likes."""
    reader = FrameReader()
    stream = b"".join(map(encode_frame, MESSAGES))
    assert MESSAGES == [message for n in range(len(stream)) for message in reader.feed(stream[n : n + 1])]


def framed(body: bytes, version: int = VERSION) -> bytes:
    return (len(body) + 1).to_bytes(4, "big") + bytes([version]) + body


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x00\x00\x00\x00\x01", "a frame of 0 bytes"),
        (b"\x00\x00\x00\x01\x01", "a frame of 1 bytes"),
        (b"\xff\xff\xff\xff\x01", "the limit is"),
        (framed(b"\x80", VERSION + 1), "frame version 2; this process speaks 1"),
        (framed(b"\xc1"), "not a message"),
        (framed(b"\x80"), "not a message"),
        (framed(msgspec.msgpack.encode({"type": "reboot"})), "not a message"),
        (framed(msgspec.msgpack.encode({"type": "want_svid"})), "not a message"),
        (framed(msgspec.msgpack.encode({"type": "want_svid", "service": 7})), "not a message"),
        (framed(msgspec.msgpack.encode({"type": "want_host", "host": "host2", "wanted": 8.5})), "not a message"),
        (framed(msgspec.msgpack.encode({"type": "host_read", "host": "host2"})), "not a message"),
        (framed(b"\x82\xa4type\xa9want_svid\xa7service\xa1\xff"), "not a message"),
        (framed(b"\x91" * 100_000), "not a message"),
    ],
)
def test_what_is_no_message_closes_the_channel(data: bytes, says: str) -> None:
    """FrameError, whole and byte by byte, and nothing else."""
    with pytest.raises(FrameError, match=says):
        list(FrameReader().feed(data))
    reader = FrameReader()
    with pytest.raises(FrameError, match=says):
        [message for n in range(len(data)) for message in reader.feed(data[n : n + 1])]


def test_a_frame_over_the_limit_is_refused_before_it_arrives() -> None:
    """The length alone decides: no memory is taken for it."""
    small = FrameReader(limit=100)
    with pytest.raises(FrameError, match="a frame of 101 bytes; the limit is 100"):
        list(small.feed((101).to_bytes(4, "big") + b"\x01"))
    fits = encode_frame(SnapshotFrame(b"x" * 60))
    assert [SnapshotFrame(b"x" * 60)] == list(FrameReader(limit=100).feed(fits))


def test_a_field_of_a_later_version_is_ignored() -> None:
    """N and N+1 talk to each other during an upgrade."""
    body = msgspec.msgpack.encode({"type": "want_svid", "service": "web", "urgency": 3})
    assert [WantSvid("web")] == list(FrameReader().feed(framed(body)))


def test_no_frame_is_longer_than_the_longest_snapshot() -> None:
    """The length alone is refused: nobody gathers four gigabytes first."""
    assert list(FrameReader().feed(limits.FRAME_BYTES.to_bytes(4, "big") + b"\1")) == []
    with pytest.raises(FrameError, match=str(limits.FRAME_BYTES + 1)):
        list(FrameReader().feed((limits.FRAME_BYTES + 1).to_bytes(4, "big") + b"\1"))
