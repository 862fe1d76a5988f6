"""Time and chance, as arguments."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple


class Environment(NamedTuple):
    """What is different each time one looks."""

    now: Callable[[], float]
    """Unix seconds."""
    draw: Callable[[], float]
    """A number in [0, 1)."""


def real_environment() -> Environment:
    """The machine's clock and dice. The dice spread requests in time; nothing secret depends on them."""
    return Environment(lambda: datetime.now(tz=UTC).timestamp(), random.SystemRandom().random)
