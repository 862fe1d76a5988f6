"""Where the catalog's log goes: a log that cannot be written must not stop an answer from being given."""

import io
from typing import BinaryIO


class DroppingStream(io.RawIOBase):
    """Passes bytes on to `target`, and drops what it refuses: a full disk under the log is no reason to fail requests."""

    def __init__(self, target: BinaryIO) -> None:
        super().__init__()
        self._target = target
        self.dropped = 0
        """Writes that were lost."""

    def writable(self) -> bool:
        """It is for writing."""
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # bytes are all that a logger writes
        """As if all of it was written."""
        try:
            self._target.write(data)
        except OSError:
            self.dropped += 1
        return len(data)

    def flush(self) -> None:
        """As if all of it was written."""
        try:
            self._target.flush()
        except OSError:
            self.dropped += 1
