"""Work that would hold up the event loop: done in a few threads beside it, of each token one piece at a time.

So one token's work delays its own next, and nobody else's: it can never have all threads. A piece whose caller goes away keeps
its token's turn until it has ended, or a caller who hangs up at once could have any number of them.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nodeagent import limits
from nodeagent.embedded.refusal import TooMany

T = TypeVar("T")


class Aside:
    """Owned by the event loop of the server; closed by its store."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=limits.CATALOG_ASIDE, thread_name_prefix="catalog-aside")
        self._turns: dict[str, list[asyncio.Future[None]]] = {}
        """Who waits, by accessor, first come first; absent: nothing of that token is under way."""

    async def run(self, accessor: str, work: Callable[[], T], most: int = limits.CATALOG_ASIDE_WAITING) -> T:
        """What `work` gives, or raises; of one token in the order of asking.

        Raises:
            TooMany: `most` pieces of that token wait already.
        """
        await self._turn(accessor, most)
        try:
            made = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except BaseException:
            self._pass_on(accessor)
            raise
        made.add_done_callback(lambda _: self._pass_on(accessor))
        return await asyncio.shield(made)

    def close(self) -> None:
        """Ends when what is under way has; what waits is not begun."""
        self._threads.shutdown(cancel_futures=True)

    async def _turn(self, accessor: str, most: int) -> None:
        waiting = self._turns.get(accessor)
        if waiting is None:
            self._turns[accessor] = []
            return
        if len(waiting) >= most:
            raise TooMany(f"{most} requests of this token wait for the one before them, which is its limit")
        mine = asyncio.get_running_loop().create_future()
        waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():  # it was this one's turn in the very moment in which its caller went
                self._pass_on(accessor)
            elif mine in waiting:  # else it was passed over already
                waiting.remove(mine)
            raise

    def _pass_on(self, accessor: str) -> None:
        waiting = self._turns[accessor]
        while waiting:
            following = waiting.pop(0)
            if not following.done():
                following.set_result(None)
                return
        del self._turns[accessor]
