"""This host's clock: that somebody has set it, or that it slept, and how far it is from the catalog's."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NoReturn

from certs.svid import Svid
from nodeagent import limits

_DATE_WITHIN_S = 1.0  # the header counts whole seconds
_CURE = "see: timedatectl, chronyc tracking"
_HOUR_S = 3600.0


async def watch_clock(now: Callable[[], float], on_jump: Callable[[float], None]) -> NoReturn:
    """Tells by how many seconds `now` (Unix seconds) has jumped, each time that it does, until it is cancelled.

    A clock that is slewed, as NTP does, goes on by more or less than it should, but not by CLOCK_JUMP_S within a look.
    """
    loop = asyncio.get_running_loop()
    offset = now() - loop.time()
    while True:
        await asyncio.sleep(limits.CLOCK_LOOK_S)
        before, offset = offset, now() - loop.time()
        if abs(offset - before) >= limits.CLOCK_JUMP_S:
            on_jump(offset - before)


def _since_boot() -> float:
    """Seconds, those in which the host slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class CatalogClock:
    """The catalog's clock, by the dates of its answers. Owned by its client.

    A date is kept beside the moment at which it came by a clock that nobody can set: once ours is set right, no other answer is
    needed to know that.
    """

    def __init__(self, now: Callable[[], float], elapsed: Callable[[], float] = _since_boot) -> None:
        self._now = now
        self._elapsed = elapsed
        self._began_at: float | None = None
        """What the catalog's clock showed when `elapsed` was 0."""

    def note(self, date: str) -> None:
        """`date`: the header of an answer that came just now; one that is none changes nothing."""
        with suppress(ValueError, OverflowError):
            self._began_at = parsedate_to_datetime(date).timestamp() + _DATE_WITHIN_S / 2 - self._elapsed()

    @property
    def ahead_s(self) -> float:
        """By how many seconds our clock is ahead of it; below 0: behind. NaN: it is not known."""
        return math.nan if self._began_at is None else self._now() - self._began_at - self._elapsed()


def clock_problem(ahead_s: float, svids: Iterable[Svid], now: float) -> str:
    """What is wrong with this host's clock; empty: nothing that shows.

    ahead_s: of the catalog's, NaN where that is not known. svids: held here, signed by the CA's clock. now: Unix seconds.
    """
    if ahead_s < -limits.CLOCK_SKEW_S:
        return f"this host's clock is {_span(-ahead_s)} behind the catalog's: by it fresh certificates are not valid yet, and tunnels are refused; {_CURE}"
    if ahead_s > limits.CLOCK_SKEW_S:
        return f"this host's clock is {_span(ahead_s)} ahead of the catalog's: by it certificates end too early, and then tunnels are refused; {_CURE}"
    last = max((svid.not_before.timestamp() for svid in svids), default=0.0)
    if last > now:
        begins = datetime.fromtimestamp(last, UTC)
        return f"this host's clock is behind the CA's: a certificate that it holds is not valid before {begins:%Y-%m-%d %H:%M:%S} UTC; {_CURE}"
    return ""


def _span(seconds: float) -> str:
    return f"{seconds / _HOUR_S:.1f} h" if seconds >= _HOUR_S else f"{seconds:.0f} s"
