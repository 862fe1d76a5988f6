"""What a worker shares with the others of its host, through control: instances that it ejected, and parts of what a caller may have open.

Requests that find no part left wait a moment where control leases: more is on its way, or one of them ends.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import get_args

from nodeagent import limits
from nodeagent.decide.breaker import Gauge
from nodeagent.decide.chain import Target
from nodeagent.decide.dispatch import Course, Dispatch, Kind
from nodeagent.decide.outlier import Ejection
from nodeagent.model.snapshot import Snapshot
from nodeagent.wire.frames import EjectionRow, PartRow, Shared

_KINDS: tuple[Kind, ...] = get_args(Kind)


class Sharing:
    """Owned by the worker's loop."""

    def __init__(self, dispatch: Dispatch, snapshot: Callable[[], Snapshot]) -> None:
        self.on_connections: Callable[[Course, int], None] = lambda _course, _more: None
        """Is told how many more of them may be opened; below 0, how many are too many."""
        self._dispatch = dispatch
        self._snapshot = snapshot
        self._send: Callable[[Shared], bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told_at = self._unheard_since = 0.0
        self._turns: dict[Course, deque[asyncio.Future[None]]] = {}
        self._vain: dict[Course, float] = {}
        """Until when nobody waits, as somebody did in vain."""

    # --- with control --------------------------------------------------------------------------------------------------

    def join(self, send: Callable[[Shared], bool]) -> None:
        """Control takes part, from here on."""
        self._send = send
        self._dispatch.lead(self._snapshot(), is_led=True)
        self._dispatch.changed.update(self._dispatch.courses())
        send(Shared())
        self.note()

    def leave(self) -> None:
        """Control is gone: each worker goes on with its static share."""
        if self._send:
            self._send = None
            self._dispatch.lead(self._snapshot(), is_led=False)

    def hear(self, said: Shared) -> None:
        """What others saw, and what this worker may use."""
        self._unheard_since, now = 0.0, time.monotonic()
        for row in said.ejections:
            course = (row.source, Target(row.service, row.subset))
            self._dispatch.hear(self._snapshot(), course, Ejection(row.instance, now + row.left_s, row.times), now)
        for part in said.parts:
            if part.kind in _KINDS:
                self._follow(part, "requests" if part.kind == "requests" else "connections")

    def ejected(self, course: Course, ejection: Ejection) -> None:
        """For the others."""
        if self._send:
            source, target = course
            left_s = ejection.until - time.monotonic()
            self._send(Shared([EjectionRow(source, target.service, target.subset, ejection.instance, left_s, ejection.times)]))

    def note(self) -> None:
        """Control is told of what has changed: at once, or soon after the last time."""
        if self._dispatch.changed and self._send and not self._timer:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._told_at + limits.SHARE_S), self._tell)

    def _tell(self) -> None:
        self._timer, self._told_at = None, asyncio.get_running_loop().time()
        changed, snapshot = self._dispatch.changed, self._snapshot()
        courses = [changed.pop() for _ in range(min(len(changed), limits.SHARED_ROWS // len(_KINDS)))]
        rows = [_row(course, kind, self._dispatch.gauge(snapshot, course, kind)) for course in courses for kind in _KINDS]
        if self._send and not self._send(Shared([], rows)):
            changed.update(courses)
        self._unheard_since = self._unheard_since or time.monotonic()
        self.note()

    def _follow(self, part: PartRow, kind: Kind) -> None:
        course = (part.source, Target(part.service, part.subset))
        gauge = self._dispatch.gauge(self._snapshot(), course, kind)
        before, gauge.serial = gauge.share, part.serial
        if part.limit == gauge.limit:
            gauge.take_share(part.held)
        if gauge.share <= before or part.limit != gauge.limit:
            self._dispatch.changed.add(course)
            self.note()
        if kind == "connections":
            self.on_connections(course, gauge.told - gauge.used)
        else:
            self._wake(course, gauge.share - before)

    # --- requests that wait ----------------------------------------------------------------------------------------------

    def may_wait(self, course: Course, kind: Kind = "requests") -> bool:
        """Whether more may be leased, for a request that found nothing left."""
        gauge = self._dispatch.gauge(self._snapshot(), course, kind)
        if not self._send or gauge.share >= gauge.limit or len(self._turns.get(course, ())) >= gauge.limit:
            return False
        return not gauge.share or time.monotonic() >= self._vain.get(course, 0.0)  # who has none has nothing that could end

    async def turn(self, course: Course) -> None:
        """Returns when it may be tried again, or has been waited for in vain."""
        queue = self._turns.setdefault(course, deque())
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(future)
        try:
            async with asyncio.timeout(limits.LEASE_WAIT_S):
                await future
        except TimeoutError:
            self._miss(course)
        finally:
            with contextlib.suppress(ValueError):
                queue.remove(future)
            if not queue:
                self._turns.pop(course, None)

    def freed(self, course: Course) -> None:
        """A request has ended."""
        self._wake(course, 1)
        self.note()

    def _wake(self, course: Course, number: int) -> None:
        queue = self._turns.get(course)
        while queue and number > 0:
            future = queue.popleft()
            if not future.done():
                future.set_result(None)
                number -= 1

    def _miss(self, course: Course) -> None:
        """Nothing came in time: others do not wait for it. Where control says nothing at all, it is as if there were none."""
        now = time.monotonic()
        if self._unheard_since and now - self._unheard_since >= limits.LEASE_MUTE_S:
            self._dispatch.go_alone(self._snapshot(), course)
            self._dispatch.changed.add(course)
        elif len(self._vain) < limits.DISPATCH_LANES or course in self._vain:
            self._vain[course] = now + limits.LEASE_AGAIN_S
        else:
            self._vain = {each: until for each, until in self._vain.items() if until > now}
        self.note()


def _row(course: Course, kind: Kind, gauge: Gauge) -> PartRow:
    held, wanted = gauge.tell()
    return PartRow(course[0], course[1].service, course[1].subset, kind, gauge.limit, held, wanted, gauge.serial)
