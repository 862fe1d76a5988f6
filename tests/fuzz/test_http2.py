"""Sessions under frames that are well-formed one by one, in any order and on any stream."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import wire

SETTINGS = 4
KINDS = st.integers(0, 10)  # DATA to CONTINUATION, and one that nobody knows
STREAMS = st.sampled_from([0, 1, 1, 1, 2, 3, 3, 5, 2**31 - 1])
FLAGS = st.sampled_from([0, 0, 1, 4, 4, 5, 8, 0x20, 0xFF])


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return number(len(payload))[1:] + bytes([kind, flags]) + number(stream) + payload


def literal(*fields: tuple[bytes, bytes]) -> bytes:
    """A header block without a table: RFC 7541, 6.2.3."""
    return b"".join(b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields)


BLOCKS = st.sampled_from(
    [
        literal((b":method", b"CONNECT"), (b":authority", b"10.0.0.1:80")),
        literal((b":status", b"200")),
        literal((b":status", b"401"), (b"nodeagent-reason", b"denied")),
        literal((b":status", b"103")),
        literal((b":method", b"GET"), (b":path", b"/"), (b":scheme", b"https")),
        literal((b"trailer", b"x")),
        literal((b"Upper", b"x")),
        b"\x80",
        b"",
    ]
)
PAYLOADS = st.one_of(
    BLOCKS,
    st.binary(max_size=20),
    st.sampled_from([0, 1, 8, 65_535, 2**31 - 1, 2**32 - 1]).map(number),
    st.builds(lambda key, value: bytes([0, key]) + number(value), st.integers(1, 8), st.sampled_from([0, 1, 16_384, 2**31 - 1, 2**31])),
    st.just(b"x" * 17_000),
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Frames behind the empty SETTINGS with which every peer begins."""
    sent = frame(SETTINGS, 0, 0, b"")
    for _ in range(draw(st.integers(1, 8))):
        sent += frame(draw(KINDS), draw(FLAGS), draw(STREAMS), draw(PAYLOADS))
    return sent


@pytest.mark.parametrize("target", [wire.http2_server, wire.http2_client])
@given(data=frames())
def test_any_frames_give_the_same_events_however_they_are_cut(target: Callable[[bytes], bool], data: bytes) -> None:
    """And when the session is over nothing is held, nor counted as held."""
    target(data)
