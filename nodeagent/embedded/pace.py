"""How fast one token may write."""

from nodeagent import limits
from nodeagent.embedded.refusal import TooMany


class Pace:
    """A token bucket for each accessor. Owned by the event loop of the server."""

    def __init__(self) -> None:
        self._full_at: dict[str, float] = {}
        """When each bucket will be full again, the one that was used last at the end; absent: it is full."""

    def take(self, accessor: str, now_s: float) -> None:
        """Nothing, when one more write is within the pace.

        Raises:
            TooMany: the bucket is empty.
        """
        self._forget_full(now_s)
        full_at = max(self._full_at.get(accessor, now_s), now_s) + 1 / limits.CATALOG_WRITES_PER_S
        if full_at - now_s > limits.CATALOG_WRITES_BURST / limits.CATALOG_WRITES_PER_S:
            raise TooMany(f"this token writes too fast: at most {limits.CATALOG_WRITES_PER_S:g} changes a second")
        self._full_at.pop(accessor, None)
        self._full_at[accessor] = full_at

    def _forget_full(self, now_s: float) -> None:
        while self._full_at and self._full_at[first := next(iter(self._full_at))] <= now_s:
            del self._full_at[first]
