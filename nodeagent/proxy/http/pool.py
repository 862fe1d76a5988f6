"""Connections to instances that no request uses: the one that rested least is taken first, and none is kept for long."""

import asyncio
from collections import deque

from nodeagent import limits
from nodeagent.decide.dispatch import Course
from nodeagent.proxy.http.origin import Origin


class OriginPool:
    """Owned by one worker. Never shared by two services that call: the key has who calls."""

    def __init__(self, per_key: int = limits.ORIGINS_IDLE, all_keys: int = limits.ORIGINS_IDLE_ALL) -> None:
        self._idle: dict[object, deque[Origin]] = {}
        self._count = 0
        self._per_key = per_key
        self._all_keys = all_keys
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __len__(self) -> int:
        return self._count

    def take(self, key: object) -> Origin | None:
        """One on which a request may go; None: there is none."""
        idle = self._idle.get(key)
        while idle:
            origin = idle.pop()
            self._forget(key)
            if origin.is_ready:
                return origin
            origin.leave()
        return None

    def keep(self, key: object, origin: Origin) -> None:
        """It rests from now on."""
        if self._is_closed or not origin.is_ready:
            origin.leave()
            return
        idle = self._idle.setdefault(key, deque())
        idle.append(origin)
        self._count += 1
        if len(idle) > self._per_key:
            self._close_oldest(key)
        elif self._count > self._all_keys:
            self._close_oldest(min(self._idle, key=lambda each: self._idle[each][0].idle_since))
        if not self._timer:
            self._timer = asyncio.get_running_loop().call_later(limits.ORIGIN_IDLE_S, self._expire)

    def give_up(self, course: Course) -> bool:
        """Closes one that was opened for that course, the one that has rested longest there: another is to be opened; whether there was one."""
        for key, idle in self._idle.items():
            found = next((origin for origin in idle if origin.course == course), None)
            if found:
                idle.remove(found)
                self._forget(key)
                found.leave()
                return True
        return False

    def close(self) -> None:
        """Keeps none, from now on: the worker drains."""
        self._is_closed = True
        for key in list(self._idle):
            while key in self._idle:
                self._close_oldest(key)
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        """Closes what has rested for too long, and looks again when the next one has."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for key in list(self._idle):
            while key in self._idle and loop.time() - self._idle[key][0].idle_since >= limits.ORIGIN_IDLE_S:
                self._close_oldest(key)
        if self._idle:
            oldest = min(idle[0].idle_since for idle in self._idle.values())
            self._timer = loop.call_at(oldest + limits.ORIGIN_IDLE_S, self._expire)

    def _close_oldest(self, key: object) -> None:
        origin = self._idle[key].popleft()
        self._forget(key)
        origin.leave()

    def _forget(self, key: object) -> None:
        self._count -= 1
        if not self._idle[key]:
            del self._idle[key]
