"""What was captured last, on disk: the kernel's sets are filled from it before control has compiled anything. Pure."""

import msgspec

from nodeagent import limits
from nodeagent.errors import FrameError
from nodeagent.wire.frames import CaptureFrame

NAME = "capture.json"
"""In the state directory, which is control's: what is read there is checked as what control says."""


def encode_capture(frame: CaptureFrame) -> bytes:
    """The file's content."""
    return msgspec.json.encode(frame)


def decode_capture(raw: bytes) -> CaptureFrame:
    """The frame in the file's content; its values are checked by whoever uses it.

    Raises:
        FrameError: too long, or not one of ours.
    """
    if len(raw) > limits.CONTROL_FRAME_BYTES:
        raise FrameError(f"more than {limits.CONTROL_FRAME_BYTES} bytes")
    try:
        return msgspec.json.decode(raw, type=CaptureFrame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not a saved capture: {error}") from error
