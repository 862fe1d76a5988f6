"""One blocking query, kept going for ever: what its answers say is applied when it changed, failures back off."""

import asyncio
import functools
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

from nodeagent import limits
from nodeagent.control.consul import Answer, Catalog, CatalogRefused, CatalogRewound
from nodeagent.control.pace import Bucket, backoff_s, is_cut_short, next_index
from nodeagent.errors import CatalogError
from nodeagent.observe.log import open_log
from nodeagent.observe.metrics import Metrics

_NEVER = -1.0

Apply = Callable[[Answer], Awaitable[None]]
Read = Callable[[int, float], Awaitable[Answer]]
"""As Catalog.read, of a path that is settled: (index, wait)."""

_log = open_log()


class Held(CatalogError):
    """The answer is suspicious: what it took away is kept for now, and it is read again."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How a watch asks."""

    wait_s: float = limits.CONSUL_WAIT_S
    poll_s: float = 0.0
    """0: blocking queries; else plain reads this far apart."""
    rest_s: float = 0.0
    """Between an answer, or one that is held, and the next blocking query: where answers are long, and something always changes."""
    backoff_max_s: float = limits.CATALOG_BACKOFF_MAX_S
    may_go_back: bool = False
    """Its index goes back by itself: Consul forgets deleted keys after a quarter of an hour, and with them the highest index below a prefix; of a
    host that is not there it gives 1."""
    is_pulse: bool = False
    """After a failure it asks without waiting for a change: any answer shows that the catalog is back."""

    @property
    def is_plain(self) -> bool:
        """Whether it always waits for a change, and rests after none."""
        return not (self.is_pulse or self.poll_s or self.rest_s)


class Watch:
    """The follower of one path. Owned by one task."""

    def __init__(
        self, catalog: Catalog, path: str, apply: Apply, *, metrics: Metrics, draw: Callable[[], float],
        rhythm: Rhythm | None = None,
    ) -> None:  # fmt: skip
        self.path = path
        self.read: Read = functools.partial(catalog.read, path)
        """How it asks; another one where it is not always the one path."""
        self.rhythm = rhythm or Rhythm()
        self.longest: Callable[[], float] = lambda: limits.CONSUL_WAIT_S
        """Gives the wait beyond which none goes now, whatever the rhythm."""
        self.error = ""
        """Why its last answer was not taken; empty while all is well."""
        self.is_forbidden = False
        """Whether the catalog refused this host's token the last time."""
        self.is_waiting = False
        """Whether it waits for a change: an answer that is older than now is not on its way, then."""
        self._hurried = asyncio.Event()
        self._catalog = catalog
        self._apply = apply
        self._metrics = metrics
        self._draw = draw
        self._bucket = Bucket()
        self._index = 0
        self._held_s = 0.0
        """How long the next question waits for news at most, as the last answer is held and to be judged again; 0: as all others."""
        self._rewinds = 0
        """How often the catalog had gone back when the question was sent that gave this index."""
        self._applied = b""
        self._failures = 0
        self._was_broken = False
        """The catalog itself failed the last time (no leader, say), or did not know the token: who else rests for that may wake
        when it is well."""
        self._unreached_at = _NEVER
        """When the catalog had answered last, at the time of a failure to reach it."""
        self.complained_at = -limits.CATALOG_COMPLAIN_S

    @property
    def complaint(self) -> str:
        """As `error`, but nothing of a catalog out of reach that has answered another question since.

        This one is asked again, and its answer may take minutes, as long as there is no news.
        """
        return "" if self._unreached_at not in (_NEVER, self._catalog.answered_at) else self.error

    def hurry(self) -> None:
        """Once the answer that is on its way is applied, it asks anew, in full, and does not rest before."""
        self._hurried.set()

    async def run(self) -> NoReturn:
        """Asks and applies until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._bucket.take(loop.time()))
            try:
                await self._turn()
            except CatalogRewound:
                self._index = 0
            except CatalogError as error:
                await self._cope(error, loop.time())
            except Exception as error:  # noqa: BLE001 - a defect must not end the other watches: logged and retried
                _log.error("watch_failed", path=self.path, exc_info=True)
                self._forget()
                await self._cope(CatalogError(f"{self.path}: {type(error).__name__}: {error}"), loop.time())

    async def _turn(self) -> None:
        """One query; what it says is applied if it says something new."""
        is_news = self.is_forbidden or (self.rhythm.is_pulse and self._failures)  # that it is answered again
        if self._hurried.is_set():
            self._hurried.clear()
            self._forget()
        if self._rewinds != self._catalog.rewinds:
            self._rewinds, self._index = self._catalog.rewinds, 0
        index = 0 if is_news else self._index
        answer, was_cut_short = await self._ask(index)
        if not self.rhythm.may_go_back:  # whatever becomes of the answer: if it went back the others wait in vain
            self._catalog.note_index(self.path, answer.index)
        digest = await _digest(answer.body)
        is_new = digest != self._applied
        if is_new:
            try:
                await self._apply(answer)
            except CatalogError as error:
                self._forget()
                if isinstance(error, Held):  # what is held is no reason to hear late of what is new
                    self._index = next_index(0, answer.index)
                raise
            self._applied = digest
        self._metrics.add("nodeagent_catalog_answers_total", 1, "changed" if is_new else "same")
        if self._was_broken:
            self._catalog.wake()
        self._failures, self.error, self._was_broken, self.is_forbidden = 0, "", False, False
        self._index = 0 if self.rhythm.poll_s or was_cut_short else next_index(self._index, answer.index)
        if pause_s := self.rhythm.poll_s or self.rhythm.rest_s:
            await self._pause(pause_s)

    async def _ask(self, index: int) -> tuple[Answer, bool]:
        """The answer, and whether the wait for it was cut short."""
        self.is_waiting, asked_at = index > 0, asyncio.get_running_loop().time()
        wait_s, read = min(self._held_s or self.rhythm.wait_s, self.longest()), self._read_held if self._held_s else self.read
        self._held_s = 0.0
        try:
            answer = await read(index, wait_s)
        finally:
            self.is_waiting = False
        return answer, is_cut_short(index, answer.index, asyncio.get_running_loop().time() - asked_at, wait_s)

    async def _read_held(self, index: int, wait_s: float) -> Answer:
        """As `read`; what is held is looked at anew where those who rest are woken, too: it may be believed by now."""
        asking = asyncio.ensure_future(self.read(index, wait_s))
        woken = asyncio.create_task(self._catalog.rest(2 * wait_s))  # of itself it is over after the answer
        try:
            await asyncio.wait((asking, woken), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                return asking.result()
        finally:
            asking.cancel()
            woken.cancel()
        return await self.read(0, wait_s)

    async def _pause(self, seconds: float) -> None:
        """Half as long to half as long again, that not all ask at once; or until it is hurried, as it is by a catalog that is back."""
        await self._catalog.rest(seconds * (0.5 + self._draw()), self._hurried)

    def _forget(self) -> None:
        """The next query is a full one, and its answer counts as new."""
        self._index, self._applied = 0, b""

    async def _cope(self, error: CatalogError, at: float) -> None:
        """Shows the failure, says so once a minute, and rests."""
        self._failures += 1
        status = error.status if isinstance(error, CatalogRefused) else 0
        self.is_forbidden = status in (401, 403)
        self._was_broken = status >= 500 or self.is_forbidden
        is_unreached = self._catalog.failing_since is not None
        if is_unreached or self._was_broken:  # what is back may be another, with lower indexes; and that it is back is not to wait for news
            self._index = 0
        self._unreached_at = self._catalog.answered_at if is_unreached else _NEVER
        self.error = str(error)
        outcome = "held" if isinstance(error, Held) else "refused" if isinstance(error, CatalogRefused) else "failed"
        self._metrics.add("nodeagent_catalog_answers_total", 1, outcome)
        who: Catalog | Watch = self._catalog if is_unreached else self  # all watches have that one complaint then
        if at - who.complained_at >= limits.CATALOG_COMPLAIN_S:
            who.complained_at = at
            _log.warning("catalog_answer_not_taken", path=self.path, outcome=outcome, error=str(error))
        await self._rest(is_held=isinstance(error, Held))

    async def _rest(self, *, is_held: bool) -> None:
        """Until it is asked again after a failure. Of what is held the question itself waits so long, and is answered when there is news."""
        rest_s = backoff_s(self._failures, self._draw(), self.rhythm.backoff_max_s)
        if is_held and self._index and rest_s >= 1.0 and self.rhythm.is_plain:  # `wait` counts whole seconds
            self._held_s = rest_s
            return
        if is_held:
            self._index = 0
        if is_held and self.rhythm.rest_s:
            await self._pause(self.rhythm.rest_s)
        else:
            await self._catalog.rest(rest_s)


async def _digest(body: bytes) -> bytes:
    """What tells an answer from another; of a long one it takes milliseconds, which the loop does not wait."""
    digest = functools.partial(hashlib.blake2b, body, digest_size=16)
    return (await asyncio.to_thread(digest) if len(body) > limits.CATALOG_BODY_AT_ONCE_BYTES else digest()).digest()
