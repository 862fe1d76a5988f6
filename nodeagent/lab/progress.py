"""What a command that waits says: nothing at first, then what it still waits for."""

import time
from collections.abc import Callable

from nodeagent import limits

Say = Callable[[str], None]
"""Told in plain words what is being done."""


class Progress:
    """One wait. Owned by the loop that waits."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._due = time.monotonic() + limits.LAB_SAY_S
        self._told = ""

    def waits_for(self, what: str) -> None:
        """Says it when the wait has been long; again when it has changed, and then not at once."""
        if what == self._told or time.monotonic() < self._due:
            return
        self._told, self._due = what, time.monotonic() + limits.LAB_SAY_S
        self._say(f"still waiting: {what}")
