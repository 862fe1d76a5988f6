"""Which refusals are worth a line: a flood of them must not push everything else out of the log."""

from typing import Literal

from nodeagent import limits
from nodeagent.errors import Reason
from nodeagent.model.outcome import ConnectionRow
from nodeagent.observe.record import is_refusal

_MINUTE_S = 60

Verdict = Literal["line", "last", "none"]
"""Write it; write it and say that no more of its source will be written this minute; do not."""


class Flood:
    """Refusals by source in the current minute. Owned by whoever writes the log; metrics count them all."""

    def __init__(self) -> None:
        self._minute = 0
        self._lines: dict[str, int] = {}

    def judge(self, source: str, now: float) -> Verdict:
        """Whether one more refusal of `source` gets its line. now: seconds of any clock that does not go back."""
        self._turn(int(now // _MINUTE_S))
        if source not in self._lines and len(self._lines) >= limits.FLOOD_SOURCES:
            source = ""  # all others together
        count = self._lines[source] = self._lines.get(source, 0) + 1
        if count < limits.FLOOD_LINES:
            return "line"
        return "last" if count == limits.FLOOD_LINES else "none"

    def judge_row(self, row: ConnectionRow) -> Verdict:
        """As `judge`; what ended well, or was refused to a service that is known by name, always has its line.

        So does a local workload that nobody knows: whoever sets up a mesh looks for each of them.
        """
        if row.source or row.reason is Reason.UNIDENTIFIED or not is_refusal(row):
            return "line"
        return self.judge(source_of(row), row.closed_at)

    def _turn(self, minute: int) -> None:
        if minute != self._minute:
            self._minute = minute
            self._lines.clear()


def source_of(row: ConnectionRow) -> str:
    """The address that the connection came from, without its port."""
    return row.client.rpartition(":")[0]
