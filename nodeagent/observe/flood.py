"""Which refusals of unproven callers are worth a line: a flood of them must not push everything else out of the log."""

from typing import Literal

from nodeagent import limits
from nodeagent.model.outcome import ConnectionRow
from nodeagent.observe.record import is_refusal

_MINUTE_S = 60


class Flood:
    """Refusals by source address in the current minute. Owned by whoever writes the log; metrics count them all."""

    def __init__(self) -> None:
        self._minute = 0
        self._lines: dict[str, int] = {}

    def judge(self, row: ConnectionRow) -> Literal["line", "last", "none"]:
        """Whether this row gets its line; `last`: it does, and no more of its source until the minute is over."""
        if row.source or not is_refusal(row):
            return "line"
        self._turn(int(row.closed_at // _MINUTE_S))
        source = source_of(row)
        if source not in self._lines and len(self._lines) >= limits.FLOOD_SOURCES:
            source = ""  # all others together
        count = self._lines[source] = self._lines.get(source, 0) + 1
        if count < limits.FLOOD_LINES:
            return "line"
        return "last" if count == limits.FLOOD_LINES else "none"

    def _turn(self, minute: int) -> None:
        if minute != self._minute:
            self._minute = minute
            self._lines.clear()


def source_of(row: ConnectionRow) -> str:
    """The address that the connection came from, without its port."""
    return row.client.rpartition(":")[0]
