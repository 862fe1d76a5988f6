"""What a capture of the lab's wire shows: TCP streams, TLS records in words, and whether a text is there in clear."""

import ipaddress
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nodeagent.lab.errors import LabError
from nodeagent.model.address import Address

RECORDS = {20: "change cipher spec", 21: "alert", 22: "handshake", 23: "encrypted data"}
"""RFC 8446, 5.1: the first byte of a TLS record. TLS 1.3 shows all but its first messages as type 23."""
_ETHERNET = 1
_TCP = 6


class Flow(NamedTuple):
    """One direction of a TCP connection."""

    source: Address
    destination: Address


class Segment(NamedTuple):
    """One TCP packet."""

    flow: Flow
    sequence: int
    payload: bytes


class Record(NamedTuple):
    """The head of a TLS record."""

    kind: int
    version: int
    length: int


def read_frames(pcap: bytes) -> Iterator[bytes]:
    """The Ethernet frames of a capture file, as tcpdump writes it on this machine; a cut last one is left out.

    Raises:
        LabError: another format.
    """
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}.get(pcap[:4])
    if order is None or struct.unpack_from(f"{order}I", pcap, 20)[0] != _ETHERNET:
        raise LabError("this is not a capture of an Ethernet interface in tcpdump's format; capture br0 with -w")
    at = 24
    while at + 16 <= len(pcap):
        length = struct.unpack_from(f"{order}I", pcap, at + 8)[0]
        if at + 16 + length > len(pcap):
            return
        yield pcap[at + 16 : at + 16 + length]
        at += 16 + length


def try_segment(frame: bytes) -> Segment | None:
    """The TCP segment in an Ethernet frame; None: it holds none, or only a fragment or a part of one."""
    try:
        return _segment(frame)
    except (struct.error, IndexError):
        return None


def read_streams(pcap: bytes) -> dict[Flow, bytes]:
    """What each side of each connection sent, in order, retransmissions removed."""
    found: dict[Flow, dict[int, bytes]] = {}
    for segment in filter(None, map(try_segment, read_frames(pcap))):
        if segment.payload:
            found.setdefault(segment.flow, {})[segment.sequence] = segment.payload
    return {flow: _join(segments) for flow, segments in found.items()}


def shows(pcap: bytes, text: bytes) -> bool:
    """Whether `text` is there in clear, in one packet or across several."""
    return text in pcap or any(text in stream for stream in read_streams(pcap).values())


def read_records(stream: bytes) -> list[Record] | None:
    """The TLS records that `stream` consists of, the last one possibly cut; None: it is not TLS."""
    records, at = [], 0
    while at + 5 <= len(stream):
        record = Record(*struct.unpack_from("!BHH", stream, at))
        if record.kind not in RECORDS or record.version >> 8 != 3:
            return None
        records.append(record)
        at += 5 + record.length
    return records or None


def describe(pcap: bytes) -> list[str]:
    """A line for each direction of each connection: how much, and what it consists of."""
    lines = []
    for flow, stream in read_streams(pcap).items():
        records = read_records(stream)
        kinds = Counter(RECORDS[record.kind] for record in records or ())
        what = ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) if records else "NOT TLS"
        lines.append(f"{flow.source} -> {flow.destination}: {len(stream)} bytes; TLS records: {what}")
    return lines


def main(arguments: list[str]) -> int:
    """`FILE TEXT…`: prints what the capture shows; 0 if every stream is TLS and no TEXT is in clear."""
    pcap = Path(arguments[0]).read_bytes()
    lines = describe(pcap)
    print(*lines, sep="\n")
    for text in arguments[1:]:
        print(f"{text!r} in clear: {'YES' if shows(pcap, text.encode()) else 'never'}")
    if not lines:
        print("nothing was captured")
    is_clear = any(shows(pcap, text.encode()) for text in arguments[1:]) or any("NOT TLS" in line for line in lines)
    return 1 if is_clear or not lines else 0


def _segment(frame: bytes) -> Segment | None:
    kind = struct.unpack_from("!H", frame, 12)[0]
    packet = frame[14:]
    if kind == 0x0800 and packet[9] == _TCP and not struct.unpack_from("!H", packet, 6)[0] & 0x3FFF:
        head, end, source, destination = (packet[0] & 15) * 4, struct.unpack_from("!H", packet, 2)[0], 12, 16
        width = 4
    elif kind == 0x86DD and packet[6] == _TCP:
        head, end, source, destination = 40, 40 + struct.unpack_from("!H", packet, 4)[0], 8, 24
        width = 16
    else:
        return None
    tcp = packet[head : end or None]  # a length of 0: larger than 64 KiB, by segmentation offload
    source_port, destination_port, sequence = struct.unpack_from("!HHI", tcp)
    flow = Flow(
        Address(str(ipaddress.ip_address(packet[source : source + width])), source_port),
        Address(str(ipaddress.ip_address(packet[destination : destination + width])), destination_port),
    )
    return Segment(flow, sequence, tcp[(tcp[12] >> 4) * 4 :])


def _join(segments: dict[int, bytes]) -> bytes:
    """The payloads in the order of their sequence numbers, which may wrap; what was sent twice is in it once."""
    first = next(iter(segments))
    joined, expected = bytearray(), None
    for sequence in sorted(segments, key=lambda each: (each - first + 2**31) % 2**32):
        payload = segments[sequence]
        overlap = 0 if expected is None else (expected - sequence + 2**31) % 2**32 - 2**31
        if 0 <= overlap < len(payload) or overlap < 0:
            joined += payload[max(overlap, 0) :]
            expected = (sequence + len(payload)) % 2**32
    return bytes(joined)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
