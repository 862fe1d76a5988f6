"""The checks that this host's agent looks at for the embedded catalog; a Consul agent does that itself."""

import asyncio
from collections.abc import Callable

from nodeagent import limits
from nodeagent.catalog.duties import Duty, Look, Status, Verdict, judge, parse_duties
from nodeagent.control.consul import Answer, Catalog, CatalogRefused, service_path
from nodeagent.control.look import Looker
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
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(limits.CHECK_LOOKS)
        self._looker = Looker()

    @property
    def complaint(self) -> str:
        """Why what is to be looked at is not known; empty while it is."""
        return self._watch.complaint

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
        """As Catalog.read; a catalog that knows nothing of this has nothing to be looked at, and is asked seldom."""
        if not self._is_served:
            await self._catalog.rest(limits.CHECKS_UNSERVED_S)
        try:
            answer = await self._catalog.read(DUTIES, index, wait_s)
        except CatalogRefused as refused:
            if refused.status not in _NOT_SERVED:
                raise
            self._is_served = False
            return Answer(b"[]", None)
        self._is_served = True
        return answer

    async def _take(self, answer: Answer) -> None:
        self._duties = {duty.check_id: duty for duty in parse_duties(answer.body)}
        self._changed.set()

    def _follow(self, group: asyncio.TaskGroup) -> None:
        """One task for each check; a task looks up what it is to do before each look."""
        for check_id in [each for each in self._tasks if each not in self._duties]:
            self._tasks.pop(check_id).cancel()
        for check_id in self._duties:
            if check_id not in self._tasks:
                self._tasks[check_id] = group.create_task(self._keep_looking(check_id), name=f"check {check_id}")

    async def _keep_looking(self, check_id: str) -> None:
        """Looks at one application for as long as it is to be looked at; the first time soon, not at all of them at once."""
        duty = self._duties[check_id]
        verdict, told = Verdict(duty.status), Look("critical", "")
        await asyncio.sleep(self._draw() * min(duty.interval_s, limits.CHECK_SPREAD_S))
        while True:
            duty = self._duties[check_id]
            async with self._room:
                look = await self._looker.look(duty)
            verdict = judge(verdict, look, duty)
            word = Look(verdict.status, look.output)
            if word != told or duty.status != word.status:
                told = word if await self._tell(check_id, word) else Look("critical", "")
            await asyncio.sleep(max(duty.interval_s, limits.CHECK_INTERVAL_MIN_S) * (0.95 + self._draw() / 10))

    async def _tell(self, check_id: str, word: Look) -> bool:
        """Whether the catalog knows now; a look later it is told again."""
        try:
            await self._catalog.put(service_path(_UPDATE, check_id), {"Status": word.status, "Output": word.output})
        except CatalogError as error:
            _log.warning("check_not_told", check=check_id, status=word.status, error=str(error))
            return False
        _note(check_id, word, self._duties.get(check_id))
        return True


def _note(check_id: str, word: Look, duty: Duty | None) -> None:
    was: Status | None = duty.status if duty else None
    if was != word.status:
        _log.info("check_changed", check=check_id, status=word.status, output=word.output[:200])
