"""Keeps on disk what is to be captured, so that a host that starts captures it before anybody has asked the catalog."""

from pathlib import Path

from nodeagent.control.durable import replace_file
from nodeagent.control.supervisor import frame_of
from nodeagent.model.snapshot import Snapshot
from nodeagent.wire import capture_file

_MODE = 0o640  # the supervisor reads it by its group: root without the capability to read everything


def save_capture(state_dir: Path, snapshot: Snapshot, catalog: tuple[str, ...] = ()) -> None:
    """Replaces the file in one step; after a crash there is the old one or the new one. `catalog`: where its name leads.

    Raises:
        OSError: the directory cannot be written.
    """
    replace_file(state_dir / capture_file.NAME, capture_file.encode_capture(frame_of(snapshot, catalog)), _MODE)
