"""Waiting for a fact, with a deadline."""

import time
from collections.abc import Callable

DEADLINE_S = 20.0


def wait_until(fact: Callable[[], object], what: str, deadline_s: float = DEADLINE_S, *, every_s: float = 0.01) -> None:
    """Returns when `fact()` is true; fails with `what` if it does not become so in time. every_s: for costly facts."""
    deadline = time.monotonic() + deadline_s
    while not fact():
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}"
        time.sleep(every_s)
