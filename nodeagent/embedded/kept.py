"""The one long answer that every agent asks for, compressed and kept until it is another: to make it for each would keep a core busy."""

import threading
import zlib
from collections.abc import Callable

_GZIP = 16 + zlib.MAX_WBITS
_FASTEST = 1  # a thirtieth, where more effort makes it a fiftieth in three times as long


class Kept:
    """Shared by the threads beside the event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._index = 0
        self._packed = b""

    def packed(self, index: int, make: Callable[[], bytes]) -> bytes:
        """What `make` gives, compressed; it is asked once for each index."""
        with self._lock:  # whoever wants the same waits for it, rather than makes it, too
            if index == self._index:
                return self._packed
            packed = zlib.compress(make(), _FASTEST, _GZIP)
            if index > self._index:  # one that began earlier may read an older state
                self._index, self._packed = index, packed
            return packed


def unpacked(packed: bytes) -> bytes:
    """For who does not take it compressed."""
    return zlib.decompress(packed, _GZIP)
