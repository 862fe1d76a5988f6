"""How often a lack that may last is worth a line in the log."""

from collections.abc import Callable

from nodeagent import limits


class Seldom:
    """One complaint in COMPLAIN_S. Owned by whoever complains."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next_at = float("-inf")

    def is_due(self) -> bool:
        """Whether to complain now; then not again for a while."""
        now = self._clock()
        if now < self._next_at:
            return False
        self._next_at = now + limits.COMPLAIN_S
        return True
