"""The checks that this host's agent looks at for the embedded catalog; a Consul agent does that itself."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from nodeagent import limits
from nodeagent.catalog.duties import Duty, Look, Status, Verdict, judge, parse_duties, shortest_s
from nodeagent.control.consul import Answer, Catalog, CatalogRefused, service_path
from nodeagent.control.look import Looker
from nodeagent.control.pace import Bucket
from nodeagent.control.watch import Watch
from nodeagent.errors import CatalogError
from nodeagent.observe.log import open_log
from nodeagent.observe.metrics import Metrics

DUTIES = "/v1/nodeagent/checks"
_UPDATE = "/v1/agent/check/update/"
_NOT_SERVED = (404, 405, 501)

_log = open_log()


class Checks:
    """Owned by control; `run` follows what is to be looked at, and looks."""

    def __init__(self, catalog: Catalog, metrics: Metrics, draw: Callable[[], float]) -> None:
        self._catalog = catalog
        self._draw = draw
        self._watch = Watch(catalog, DUTIES, self._take, metrics=metrics, draw=draw)
        self._watch.read = self._read
        self._is_served = True
        self._duties: dict[str, Duty] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._looked_at: dict[str, Duty] = {}
        """What the tasks look at, but for its status."""
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(limits.CHECK_LOOKS)
        self._late_room = asyncio.Semaphore(limits.CHECK_LATE_LOOKS)
        self._waiting = 0
        """Checks that wait for room."""
        self._tells = Bucket(limits.CHECK_TELLS_PER_S, limits.CHECK_TELLS_BURST)
        self._looker = Looker()
        self._shortest_s = 0.0
        """No check is looked at more often; 0: as each asks for."""

    @property
    def complaint(self) -> str:
        """Why what is to be looked at is not known; empty while it is."""
        return self._watch.complaint

    def notes(self) -> Iterator[str]:
        """Why not all is looked at as often as was asked for, in words."""
        if self._shortest_s:
            asked = sum(1 / duty.interval_s for duty in self._duties.values())
            yield (
                f"{len(self._duties)} checks of this host ask for {asked:.0f} looks a second, and it makes {limits.CHECK_LOOKS_PER_S:g}: "
                f"none is looked at more often than every {self._shortest_s:.1f} s; give them longer intervals"
            )
        if self._waiting:
            yield f"{self._waiting} checks wait for their turn: too many applications of this host do not answer in time"

    async def run(self) -> None:
        """Looks until it is cancelled; may be run again after a failure."""
        self._tasks.clear()
        self._changed.set()
        self._looker = Looker()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch.run(), name=DUTIES)
                while True:
                    await self._changed.wait()
                    self._changed.clear()
                    self._follow(group)
        finally:
            await self._looker.close()

    async def _read(self, index: int, wait_s: float) -> Answer:
        """As Catalog.read; a catalog that knows nothing of this has nothing to be looked at, and is asked seldom.

        Where there is something it is asked often: so it knows that somebody looks, and else calls what is looked at critical.
        """
        if not self._is_served:
            await self._catalog.rest(limits.CHECKS_UNSERVED_S)
        try:
            answer = await self._catalog.read(DUTIES, index, limits.CHECK_BEAT_S if self._duties else wait_s)
        except CatalogRefused as refused:
            if refused.status not in _NOT_SERVED:
                raise
            self._is_served = False
            return Answer(b"[]", None)
        self._is_served = True
        return answer

    async def _take(self, answer: Answer) -> None:
        self._duties = {duty.check_id: duty for duty in parse_duties(answer.body)}
        self._shortest_s = shortest_s(duty.interval_s for duty in self._duties.values())
        self._changed.set()

    def _follow(self, group: asyncio.TaskGroup) -> None:
        """One task for each check. One that is to be looked at otherwise gets another: its next look may have been hours away."""
        wanted = {check_id: msgspec.structs.replace(duty, status="critical") for check_id, duty in self._duties.items()}
        for check_id in [each for each in self._tasks if self._looked_at[each] != wanted.get(each)]:
            self._tasks.pop(check_id).cancel()
        self._looked_at = wanted
        new = self._duties.keys() - self._tasks.keys()
        spread_s = max(limits.CHECK_SPREAD_S, len(new) / limits.CHECK_LOOKS_PER_S)
        for check_id in new:
            self._tasks[check_id] = group.create_task(self._keep_looking(check_id, spread_s), name=f"check {check_id}")

    async def _keep_looking(self, check_id: str, spread_s: float) -> None:
        """Looks at one application for as long as it is to be looked at; the first time within `spread_s`, not at all of them at once."""
        duty = self._duties[check_id]
        verdict, room, told = Verdict(duty.status), self._room, _Told()
        await asyncio.sleep(self._draw() * min(max(duty.interval_s, self._shortest_s), spread_s))
        while next_duty := self._duties.get(check_id):
            duty = next_duty
            look = await self._look(duty, room)
            room = self._late_room if look.is_late else self._room
            verdict = judge(verdict, look, duty)
            rest_s = max(duty.interval_s, self._shortest_s, limits.CHECK_INTERVAL_MIN_S) * (0.95 + self._draw() / 10)
            if turn_s := self._turn_in_s(duty, verdict.status, told):
                await asyncio.sleep(turn_s)
                if turn_s > rest_s:  # what was seen may be minutes old: what is told is seen now
                    continue
            await self._tell(duty, Look(verdict.status, look.output), told)
            await asyncio.sleep(rest_s)

    async def _look(self, duty: Duty, room: asyncio.Semaphore) -> Look:
        """One look, when there is room for it."""
        self._waiting += 1
        try:
            await room.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._looker.look(duty)
        finally:
            room.release()

    def _turn_in_s(self, duty: Duty, status: Status, told: "_Told") -> float:
        """How long a new status waits to be told; what is none is most likely nothing that the catalog would have to store."""
        if duty.status == status or told.has_turn:
            return 0.0
        told.has_turn = True
        return self._tells.take(asyncio.get_running_loop().time())

    async def _tell(self, duty: Duty, word: Look, told: "_Told") -> None:
        """Tells the catalog a new status at once, other words now and then; what did not arrive is told after the next look."""
        now = asyncio.get_running_loop().time()
        is_news = told.word is None or told.word.status != word.status or duty.status != word.status
        if not is_news and (told.word == word or now - told.at < limits.CHECK_OUTPUT_S):
            return
        told.has_turn = False
        try:
            await self._catalog.put(service_path(_UPDATE, duty.check_id), {"Status": word.status, "Output": word.output})
        except CatalogError as error:
            if told.word is not None or not told.is_refused:  # once for each time that it does not arrive
                _log.warning("check_not_told", check=duty.check_id, status=word.status, error=str(error))
            told.word, told.is_refused = None, True
            return
        told.word, told.at, told.is_refused = word, now, False
        if duty.status != word.status:
            _log.info("check_changed", check=duty.check_id, status=word.status, output=word.output[:200])


@dataclass(slots=True)
class _Told:
    """What the catalog was told last of one check. Owned by the task that looks."""

    word: Look | None = None
    at: float = 0.0
    is_refused: bool = False
    has_turn: bool = False
    """Whether it has waited for its turn to be told anew."""
