"""Keeps on disk what is to be captured, so that a host that starts captures it before anybody has asked the catalog."""

import os
from pathlib import Path

from nodeagent.catalog.compiler import capture_of
from nodeagent.model.snapshot import Snapshot
from nodeagent.wire import capture_file
from nodeagent.wire.frames import CaptureFrame

_MODE = 0o640  # the supervisor reads it by its group: root without the capability to read everything


def save_capture(state_dir: Path, snapshot: Snapshot) -> None:
    """Replaces the file in one step; after a crash there is the old one or the new one.

    Raises:
        OSError: the directory cannot be written.
    """
    capture = capture_of(snapshot)
    path = state_dir / capture_file.NAME
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        os.fchmod(file.fileno(), _MODE)
        file.write(capture_file.encode_capture(CaptureFrame(list(capture.addresses), list(capture.ports))))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
