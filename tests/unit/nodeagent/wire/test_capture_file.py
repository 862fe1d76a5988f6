"""The content of the file in which a capture is saved."""

import pytest

from nodeagent import limits
from nodeagent.errors import FrameError
from nodeagent.wire.capture_file import decode_capture, encode_capture
from nodeagent.wire.frames import CaptureFrame


def test_a_capture_survives() -> None:
    """In a form that an operator can read."""
    frame = CaptureFrame(["10.0.0.1", "fd77::2"], [80])
    assert b'"10.0.0.1"' in encode_capture(frame)
    assert decode_capture(encode_capture(frame)) == frame


@pytest.mark.parametrize("raw", [b"", b"null", b'{"type":"capture"}', b'{"type":"capture","addresses":["\xff"],"ports":[]}', b"[" * 100_000])
def test_anything_else_is_refused(raw: bytes) -> None:
    """By our own error."""
    with pytest.raises(FrameError, match="not a saved capture"):
        decode_capture(raw)


def test_a_longer_one_than_control_may_say_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is parsed."""
    monkeypatch.setattr(limits, "CONTROL_FRAME_BYTES", 10)
    with pytest.raises(FrameError, match="more than 10 bytes"):
        decode_capture(b"x" * 11)
