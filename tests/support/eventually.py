"""Waiting for a fact, with a deadline. No test sleeps for a time and hopes."""

import time
from collections.abc import Callable
from typing import TypeVar

Fact = TypeVar("Fact")

_LOOK_S = 0.02


def eventually(fact: Callable[[], Fact], deadline_s: float, what: str) -> Fact:
    """The first true value of `fact()`.

    deadline_s: at least ten times what is promised, as the machine may be busy.

    Raises:
        AssertionError: it was not true in time; names `what` and the last value.
    """
    end = time.monotonic() + deadline_s
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {deadline_s} s; last seen: {value!r}")
        time.sleep(_LOOK_S)
