"""Notices that somebody has set the machine's clock, or that it slept: rests that were measured by the old time end."""

import asyncio
from collections.abc import Callable
from typing import NoReturn

from nodeagent import limits


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
