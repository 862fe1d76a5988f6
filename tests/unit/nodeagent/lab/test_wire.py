"""Reading captures."""

import struct
from pathlib import Path

import pytest

from nodeagent.lab import wire
from nodeagent.lab.errors import LabError
from nodeagent.model.address import Address

HELLO = b"\x16\x03\x01\x00\x04abcd"
DATA = b"\x17\x03\x03\x00\x06secret"


def frame4(payload: bytes, *, sequence: int = 1, port: int = 15008, padding: bytes = b"") -> bytes:
    """An Ethernet frame with a TCP segment from 10.77.0.1:40000 to 10.77.0.2."""
    tcp = struct.pack("!HHIIBBHHH", 40000, port, sequence, 0, 5 << 4, 0x18, 0, 0, 0) + payload
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0, b"\x0a\x4d\0\1", b"\x0a\x4d\0\2")
    return b"\0" * 12 + b"\x08\x00" + ip + tcp + padding


def frame6(payload: bytes) -> bytes:
    """The same over IPv6."""
    tcp = struct.pack("!HHIIBBHHH", 40000, 15008, 1, 0, 5 << 4, 0x18, 0, 0, 0) + payload
    source, destination = b"\xfd\x77" + b"\0" * 13 + b"\1", b"\xfd\x77" + b"\0" * 13 + b"\2"
    return b"\0" * 12 + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + source + destination + tcp


def pcap(*frames: bytes, order: str = "<", link: int = 1) -> bytes:
    """A capture file."""
    head = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, link)
    return head + b"".join(struct.pack(f"{order}IIII", 0, 0, len(each), len(each)) + each for each in frames)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(order: str) -> None:
    """A capture may come from another machine."""
    assert list(wire.read_frames(pcap(b"one", b"two", order=order))) == [b"one", b"two"]


def test_a_capture_that_is_still_written_ends_at_its_last_whole_frame() -> None:
    """tcpdump may be in the middle of one."""
    for cut in range(1, 19):
        assert list(wire.read_frames(pcap(b"one", b"two")[:-cut])) == [b"one"]


@pytest.mark.parametrize("garbage", [b"", b"PK\3\4" + b"\0" * 40, pcap(b"one", link=113)])
def test_other_files_are_refused(garbage: bytes) -> None:
    """With our own error."""
    with pytest.raises(LabError, match="not a capture"):
        list(wire.read_frames(garbage))


def test_streams_are_put_together() -> None:
    """Out of order, sent twice, overlapping, padded by Ethernet, and across the wrap of sequence numbers."""
    top = 2**32 - 2
    capture = pcap(
        frame4(b"ab", sequence=top), frame4(b"cd", sequence=0), frame4(b"gh", sequence=4, padding=b"\0" * 6),
        frame4(b"ef", sequence=2), frame4(b"ab", sequence=top), frame4(b"ghij", sequence=4),
    )  # fmt: skip
    flow = wire.Flow(Address("10.77.0.1", 40000), Address("10.77.0.2", 15008))
    assert wire.read_streams(capture) == {flow: b"abcdefghij"}


def test_both_families_are_read() -> None:
    """The lab has IPv4 and IPv6."""
    (flow,) = wire.read_streams(pcap(frame6(HELLO)))
    assert str(flow.source) == "[fd77::1]:40000"


def test_a_text_across_two_packets_is_seen() -> None:
    """A canary that a segment boundary cuts is in clear nevertheless."""
    capture = pcap(frame4(b"xxcan", sequence=1), frame4(b"aryxx", sequence=6))
    assert b"canary" not in capture
    assert wire.shows(capture, b"canary")
    assert not wire.shows(capture, b"canaries")


def test_a_text_outside_tcp_is_seen() -> None:
    """Whatever carries it."""
    assert wire.shows(pcap(b"\0" * 12 + b"\x08\x06" + b"canary"), b"canary")


def test_tls_is_told_from_everything_else() -> None:
    """Record by record to the end; plaintext anywhere at a record's start is found out."""
    assert wire.read_records(HELLO + DATA + DATA[:7]) == [(22, 0x301, 4), (23, 0x303, 6), (23, 0x303, 6)]
    assert wire.read_records(HELLO + b"GET / HTTP/1.1\r\n") is None
    assert wire.read_records(b"GET / HTTP/1.1\r\n") is None
    assert wire.read_records(b"") is None


def test_the_report_is_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader who knows no TLS sees what went over the wire, and the exit status says the same."""
    file = tmp_path / "wire.pcap"
    file.write_bytes(pcap(frame4(HELLO + DATA)))
    assert wire.main([str(file), "canary"]) == 0
    assert capsys.readouterr().out == (
        "10.77.0.1:40000 -> 10.77.0.2:15008: 20 bytes; TLS records: 1 x handshake, 1 x encrypted data\n"
        "'canary' in clear: never\n"
    )
    file.write_bytes(pcap(frame4(HELLO + DATA), frame4(b"GET /canary", port=80)))
    assert wire.main([str(file), "canary"]) == 1
    assert "NOT TLS" in capsys.readouterr().out
    file.write_bytes(pcap())
    assert wire.main([str(file), "canary"]) == 1


@pytest.mark.parametrize("size", range(0, 74, 3))
def test_a_cut_frame_is_no_segment(size: int) -> None:
    """Garbage and cut packets give nothing, and never an exception."""
    for frame in (frame4(HELLO), frame6(HELLO)):
        segment = wire.try_segment(frame[:size])
        assert segment is None or frame.endswith(segment.payload) or segment.payload in frame
