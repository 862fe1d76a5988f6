"""Garbage on our own channels is refused with FrameError, and nothing else happens."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nodeagent.errors import FrameError
from nodeagent.wire import requests
from nodeagent.wire.frames import FrameReader, Message, SnapshotFrame, WantSvid, encode_frame

VALID = b"".join(map(encode_frame, (WantSvid("web"), SnapshotFrame(b"\x00" * 40), WantSvid("shop"))))


def read_all(chunks: list[bytes]) -> tuple[list[Message], bool]:
    """The messages up to the first error, and whether there was one."""
    reader, messages = FrameReader(limit=4096), []
    try:
        for chunk in chunks:
            for message in reader.feed(chunk):
                messages.append(message)  # noqa: PERF402 - what came before an error counts
    except FrameError:
        return messages, True
    return messages, False


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, and the rest."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


@given(st.binary(max_size=300), st.lists(st.integers(0, 50), max_size=8))
@example(b"\x00\x00\x00\x0c\x01\x82\xa4type\xa1\xff\x00\x00", [])
def test_any_bytes_are_messages_or_a_frame_error(data: bytes, sizes: list[int]) -> None:
    """However they are cut."""
    assert read_all([data]) == read_all(cut(data, sizes))


@given(st.integers(0, len(VALID) - 1), st.integers(0, 255), st.lists(st.integers(0, 50), max_size=8))
def test_a_changed_byte_changes_no_more_than_messages(at: int, value: int, sizes: list[int]) -> None:
    """Valid frames with one byte replaced: messages, an error, or a wait for more."""
    data = VALID[:at] + bytes([value]) + VALID[at + 1 :]
    assert read_all([data]) == read_all(cut(data, sizes))


@pytest.mark.parametrize(
    "decode", [requests.decode_family, requests.decode_question, requests.decode_answer, requests.decode_unit, requests.decode_beat]
)
@given(data=st.binary(max_size=600))
def test_any_request_is_a_value_or_a_frame_error(decode: object, data: bytes) -> None:
    """The supervisor is root: nothing that a worker sends may surprise it."""
    with contextlib.suppress(FrameError):
        decode(data)  # type: ignore[operator]
