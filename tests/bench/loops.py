"""How long a loop was held, how long the garbage collector took, and how much memory a process has: measured from inside."""

import asyncio
import gc
import resource
import time
from pathlib import Path

import msgspec

TICK_S = 0.001
_PAGE_MB = resource.getpagesize() / 1e6


class LoopFigures(msgspec.Struct, frozen=True):
    """Of one process, since it was asked last."""

    stall_ms: float
    """The longest hold of the loop by work of this process: of a late turn what the process itself has used of the CPU."""
    late_ms: float
    """The longest by the wall clock: what else the machine does is in it."""
    collection_ms: float
    """The garbage collector's longest run, by the wall clock."""
    rss_mb: float
    peak_mb: float


class LoopWatch:
    """Wants a turn each TICK_S and sees how late it comes. Owned by the loop."""

    def __init__(self) -> None:
        self._stall_s = self._late_s = self._collection_s = self._began = 0.0
        gc.callbacks.append(self._note_collection)

    async def run(self) -> None:
        """Watches for ever."""
        while True:
            began, used = time.monotonic(), time.process_time()
            await asyncio.sleep(TICK_S)
            late_s = time.monotonic() - began - TICK_S
            self._late_s = max(self._late_s, late_s)
            self._stall_s = max(self._stall_s, min(late_s, time.process_time() - used))

    def take(self) -> LoopFigures:
        """What was seen since the last call."""
        figures = LoopFigures(1000 * self._stall_s, 1000 * self._late_s, 1000 * self._collection_s, rss_mb(), peak_mb())
        self._stall_s = self._late_s = self._collection_s = 0.0
        return figures

    def _note_collection(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.monotonic()
        else:
            self._collection_s = max(self._collection_s, time.monotonic() - self._began)


def rss_mb() -> float:
    """Resident memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_MB


def peak_mb() -> float:
    """The most that this process ever had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
