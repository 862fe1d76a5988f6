"""Requests as a worker counts them, and which of them get a row."""

from bisect import bisect_left
from typing import Literal

from nodeagent import limits
from nodeagent.errors import Reason, Side
from nodeagent.wire.frames import RequestTally

Wanted = Literal["off", "errors", "all"]
Way = tuple[str, str, str, str]
"""Direction, source, destination, route."""

_OTHER = "other"
_CLASSES = 6
_SERVER_ERROR = 500


class RequestCounts:
    """Owned by one worker. Totals since it started."""

    def __init__(self, wanted: Wanted, limit: int = limits.METRIC_ROUTES) -> None:
        self._wanted = wanted
        self._limit = limit
        self._tallies: dict[Way, RequestTally] = {}
        self._changed: set[Way] = set()

    def wants(self, status: int, reason: Reason, side: Side) -> bool:
        """Whether such a request gets a row: refusals always do."""
        if self._wanted == "all" or side in (Side.MESH, Side.AGENT) or reason is Reason.BAD_MESSAGE:
            return True
        return self._wanted == "errors" and (reason is not Reason.OK or status >= _SERVER_ERROR)

    def count(self, way: Way, status: int, seconds: float, *, retries: int = 0, is_denied: bool = False, is_shed: bool = False) -> None:
        """One that is over."""
        tally = self._tallies.get(way) or self._new(way)
        tally.statuses[min(status // 100, _CLASSES - 1)] += 1
        tally.buckets[bisect_left(limits.REQUEST_SECONDS, seconds)] += 1
        tally.seconds += seconds
        tally.retries += retries
        tally.denials += is_denied
        tally.shed += is_shed
        self._changed.add((tally.direction, tally.source, tally.destination, tally.route))

    def count_ejection(self, way: Way) -> None:
        """An instance is left alone for a while."""
        tally = self._tallies.get(way) or self._new(way)
        tally.ejections += 1
        self._changed.add((tally.direction, tally.source, tally.destination, tally.route))

    def take(self) -> list[RequestTally]:
        """Those that have changed since the last call."""
        changed, self._changed = self._changed, set()
        return [self._tallies[way] for way in changed]

    def _new(self, way: Way) -> RequestTally:
        """As long as there is room; else that of all others."""
        if len(self._tallies) >= self._limit:
            way = (way[0], _OTHER, _OTHER, _OTHER)
            if way in self._tallies:
                return self._tallies[way]
        made = self._tallies[way] = RequestTally(*way, [0] * _CLASSES, [0] * (len(limits.REQUEST_SECONDS) + 1))
        return made
