"""What was captured last, read from control's state directory: as untrusted as what control says, and checked alike."""

import os
import stat
from pathlib import Path

from nodeagent import limits
from nodeagent.errors import FrameError
from nodeagent.observe.log import open_log
from nodeagent.process.capture import Capture, check_capture
from nodeagent.wire import capture_file

_log = open_log()
# Not through a link, and not waiting for the other end of a pipe: the directory belongs to another user.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def try_saved_capture(state_dir: Path) -> Capture | None:
    """What was captured last; None, with a warning, where that cannot be told, and None before it was first saved."""
    path = state_dir / capture_file.NAME
    try:
        return check_capture(capture_file.decode_capture(_read(path)))
    except FileNotFoundError:
        return None
    except (OSError, FrameError) as error:
        _log.warning(
            "saved_capture_ignored", file=str(path), error=str(error),
            effect="only intercept.mesh_cidrs are captured until control has compiled a snapshot",
        )  # fmt: skip
        return None


def _read(path: Path) -> bytes:
    with os.fdopen(os.open(path, _FLAGS), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FrameError("not a regular file")
        return file.read(limits.CONTROL_FRAME_BYTES + 1)
