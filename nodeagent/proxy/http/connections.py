"""Connections that a caller may have to instances: so many at once, and so many requests wait for one."""

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable

from nodeagent import limits
from nodeagent.decide.dispatch import Course, Dispatch
from nodeagent.errors import BreakerOpen
from nodeagent.model.snapshot import Snapshot
from nodeagent.proxy.http.origin import Origin
from nodeagent.proxy.http.pool import OriginPool
from nodeagent.proxy.http.sharing import Sharing

_Place = Origin | None
"""One that another request has done with, or None: a new one may be opened."""


class Connections:
    """Owned by the worker's loop."""

    def __init__(self, dispatch: Dispatch, pool: OriginPool, sharing: Sharing, snapshot: Callable[[], Snapshot]) -> None:
        self._dispatch = dispatch
        self._pool = pool
        self._sharing = sharing
        self._snapshot = snapshot
        self._waiting: dict[Course, deque[tuple[object, asyncio.Future[_Place]]]] = {}
        sharing.on_connections = self._follow

    async def get(self, course: Course, key: object, open_one: Callable[[], Awaitable[Origin]]) -> Origin:
        """One for a request, which waits for it where the caller has as many as it may. key: of the instance.

        Raises:
            BreakerOpen: as many requests wait, or it waited for too long.
            AgentError: there is none.
        """
        origin = None
        while not self._may_open(course):
            self._pool.give_up(course)
            origin = await self._wait(course, key)
            if origin and origin.is_ready:
                return origin
            if origin:
                origin.leave()
        try:
            origin = await open_one()
        except BaseException:
            self._gone(course)
            raise
        origin.course, origin.on_gone = course, functools.partial(self._forget, course, origin)
        if origin.end.is_closed:
            origin.on_gone()
            origin.on_gone = _nothing
        return origin

    def take(self, key: object) -> Origin | None:
        """One that rests."""
        origin = self._pool.take(key)
        if origin:
            self._rest(origin, is_resting=False)
        return origin

    def keep(self, key: object, origin: Origin) -> None:
        """It rests, or goes to a request that waits; to make room for one to another instance, it is closed."""
        course = origin.course
        if course is None:
            self._pool.keep(key, origin)
            return
        gauge, queue = self._dispatch.gauge(self._snapshot(), course, "connections"), self._waiting.get(course)
        if gauge.used > gauge.told:
            origin.leave()  # another worker waits for that
        elif not queue:
            self._rest(origin, is_resting=True)
            self._pool.keep(key, origin)
        elif found := next((each for each in queue if each[0] == key and not each[1].done()), None):
            queue.remove(found)
            found[1].set_result(origin)
        else:
            origin.leave()

    def _rest(self, origin: Origin, *, is_resting: bool) -> None:
        if origin.course and origin.is_resting != is_resting:
            origin.is_resting = is_resting
            self._dispatch.rest(origin.course, 1 if is_resting else -1)
            self._sharing.note()

    def _forget(self, course: Course, origin: Origin) -> None:
        self._rest(origin, is_resting=False)
        self._gone(course)

    def _may_open(self, course: Course) -> bool:
        may = self._dispatch.try_connect(self._snapshot(), course)
        self._sharing.note()
        return may

    async def _wait(self, course: Course, key: object) -> _Place:
        """Counted, as those that wait are bounded; not for a moment in which more may be leased."""
        waiting = self._dispatch.waiting(self._snapshot(), course)
        is_counted = waiting.try_take()
        if not is_counted and not self._sharing.may_wait(course, "connections"):
            raise BreakerOpen(f"{course[0]} has as many connections to {course[1]} as it may, and requests that wait for one (MaxPendingRequests)", course)
        future: asyncio.Future[_Place] = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(course, deque())
        queue.append((key, future))
        try:
            async with asyncio.timeout(limits.PENDING_S if is_counted else limits.LEASE_WAIT_S):
                return await future
        except TimeoutError:
            if future.done() and not future.cancelled() and (late := future.result()):
                self.keep(key, late)
            raise BreakerOpen(f"{course[0]} has as many connections to {course[1]} as it may (MaxConnections)", course) from None
        finally:
            self._leave(course, key, future)
            if is_counted:
                waiting.give_back()

    def _leave(self, course: Course, key: object, future: asyncio.Future[_Place]) -> None:
        queue = self._waiting.get(course)
        if queue and (key, future) in queue:
            queue.remove((key, future))
        if not queue:
            self._waiting.pop(course, None)

    def _gone(self, course: Course) -> None:
        """One is closed: another may be opened."""
        self._dispatch.disconnect(course)
        self._sharing.note()
        self._wake(course, 1)

    def _follow(self, course: Course, more: int) -> None:
        """The worker's part is another one. more: than are open; below 0, so many are too many."""
        for _ in range(-more):
            if not self._pool.give_up(course):
                break
        self._wake(course, more)

    def _wake(self, course: Course, number: int) -> None:
        queue = self._waiting.get(course)
        while queue and number > 0:
            _, future = queue.popleft()
            if not future.done():
                future.set_result(None)
                number -= 1


def _nothing() -> None:
    """It was told already."""
