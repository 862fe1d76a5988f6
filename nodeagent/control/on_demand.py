"""Services that nothing but a call has named: so many at once, those that have not called for long make room."""

import itertools
from collections.abc import Callable, Iterable, KeysView

from nodeagent import limits


class OnDemand:
    """Owned by Identity."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        """elapsed: seconds of a clock that nobody can set."""
        self._elapsed = elapsed
        self._called_at: dict[str, float] = {}
        """The one that called longest ago first."""

    @property
    def services(self) -> KeysView[str]:
        """All that are wanted now."""
        return self._called_at.keys()

    def why_full(self, service: str) -> str:
        """Why one more cannot be taken; empty: it can, or is there."""
        if service in self._called_at or len(self._called_at) < limits.SVID_ON_DEMAND or self._is_idle(next(iter(self._called_at))):
            return ""
        return f"{limits.SVID_ON_DEMAND} are held on demand already, and all have called within {limits.SVID_IDLE_S:g} s"

    def add(self, service: str) -> None:
        """It calls; where `why_full` was empty, somebody who is idle makes room."""
        self._called_at.pop(service, None)
        if len(self._called_at) >= limits.SVID_ON_DEMAND:
            del self._called_at[next(iter(self._called_at))]
        self._called_at[service] = self._elapsed()

    def note(self, services: Iterable[str]) -> None:
        """These have called; those that are not there are not added."""
        for service in self.services & set(services):
            self.add(service)

    def forget(self, is_vain: Callable[[str], bool]) -> None:
        """Forgets those who have not called for long, as far as there is nothing to keep for them."""
        for service in itertools.takewhile(self._is_idle, tuple(self._called_at)):
            if is_vain(service):
                del self._called_at[service]

    def _is_idle(self, service: str) -> bool:
        return self._elapsed() - self._called_at[service] >= limits.SVID_IDLE_S
