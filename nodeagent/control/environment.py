"""Time and chance, as arguments."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple


class Environment(NamedTuple):
    """What is different each time one looks."""

    now: Callable[[], float]
    """Unix seconds."""
    draw: Callable[[], float]
    """A number in [0, 1)."""
    elapsed: Callable[[], float] = time.monotonic
    """Seconds of a clock that nobody can set: what is to last a while is measured by it."""


def real_environment() -> Environment:
    """The machine's clock and dice. The dice spread requests in time; nothing secret depends on them."""
    return Environment(lambda: datetime.now(tz=UTC).timestamp(), random.SystemRandom().random)
