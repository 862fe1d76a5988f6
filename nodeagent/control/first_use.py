"""News of a host ahead of their time: who is registered at a port of it that is called from here, and was not known; and what a peer calls here.

One question of a host at a time, and so many hosts a second: whoever scans ports must not become the catalog's load. What the catalog
does not say, or says nobody is there, takes nothing away from what is known.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from nodeagent import limits
from nodeagent.catalog.registered import NODE, services_at
from nodeagent.control.consul import Catalog, service_path
from nodeagent.control.follow import Follower
from nodeagent.control.pace import Bucket
from nodeagent.control.rounds import Rounds
from nodeagent.errors import CatalogError
from nodeagent.observe.log import open_log

_log = open_log()


@dataclass(slots=True)
class _Question:
    """What is wanted of one host, by all who wait for the same answer."""

    of: set[int | str] = field(default_factory=set)
    """Ports and names of services."""
    answers: dict[Callable[[], None], asyncio.TimerHandle] = field(default_factory=dict)
    """And when each waits no longer."""
    is_read: bool = False
    """Whether the catalog has said who is registered there."""

    def tell(self) -> None:
        """All who still wait."""
        for answer, timer in self.answers.items():
            timer.cancel()
            answer()


class FirstUse:
    """Owned by control."""

    def __init__(self, catalog: Catalog, follower: Follower, here: str, is_host: Callable[[str], bool]) -> None:
        """is_host: whether a name is one of the mesh's hosts; of nothing else is asked, whatever a worker says. here: this one's."""
        self.rounds = Rounds(follower.changed)
        """In which what was heard comes into force."""
        self._catalog = catalog
        self._follower = follower
        self._is_host = is_host
        self._here = here
        self._bucket = Bucket(limits.FIRST_USE_PER_S, limits.FIRST_USE_BURST)
        self._bucket_here = Bucket(limits.FIRST_USE_HERE_PER_S, limits.FIRST_USE_HERE_BURST)
        """Peers' calls must not take the turns of this host's own."""
        self._wanted: dict[str, _Question] = {}
        """Those that were not asked yet, by host."""
        self._asking: set[str] = set()
        self._turns: asyncio.Queue[str] = asyncio.Queue()
        self._room = asyncio.Semaphore(limits.FIRST_USE_AT_ONCE)
        self._rests_until = 0.0
        self._complained_at = -limits.CATALOG_COMPLAIN_S

    def ask(self, host: str, wanted: int | str, answer: Callable[[], None]) -> None:
        """Has `answer` called when what the catalog says of that is in force, at FIRST_USE_S at the latest, and at once where it cannot be asked.

        Who comes while the host is asked about waits for another answer: this one may be older than what it calls.
        """
        if not self._has_room(host):
            answer()
            return
        if host not in self._wanted:
            self._wanted[host] = _Question()
            if host not in self._asking:
                self._turns.put_nowait(host)
        question = self._wanted[host]
        question.of.add(wanted)
        question.answers[answer] = asyncio.get_running_loop().call_later(limits.FIRST_USE_S, self._leave, host, question, answer)

    def _has_room(self, host: str) -> bool:
        """Whether one more may wait for what is said of a host."""
        if host in self._wanted:
            return len(self._wanted[host].answers) < limits.FIRST_USE_KEPT
        is_away = self._catalog.is_away or asyncio.get_running_loop().time() < self._rests_until
        is_vain = not self._follower.is_late or is_away or not self._is_host(host)
        return not is_vain and len(self._wanted) < limits.FIRST_USE_HOSTS

    def _leave(self, host: str, question: _Question, answer: Callable[[], None]) -> None:
        """One waits no longer, wherever its question is: in its turn, at the catalog, or in force too late."""
        del question.answers[answer]
        self._complain(host, "what it said is not in force in time" if question.is_read else "no answer in time")
        answer()

    async def run(self) -> None:
        """Asks the catalog, for ever; may be run again after a failure."""
        self._asking.clear()
        self._room = asyncio.Semaphore(limits.FIRST_USE_AT_ONCE)
        self._turns = asyncio.Queue()
        for host in self._wanted:
            self._turns.put_nowait(host)
        async with asyncio.TaskGroup() as group:
            while True:
                host = await self._turns.get()
                group.create_task(self._serve(host), name=f"first use of {host}")

    async def _serve(self, host: str) -> None:
        """Asks about it when it may."""
        bucket = self._bucket_here if host == self._here else self._bucket
        await asyncio.sleep(bucket.take(asyncio.get_running_loop().time()))
        async with self._room:
            await self._answer(host)

    async def _answer(self, host: str) -> None:
        question = self._wanted.pop(host)
        self._asking.add(host)
        try:
            async with asyncio.timeout(limits.FIRST_USE_S):
                await self._look(host, question)
        except TimeoutError:
            if not question.is_read:  # it hangs, and not every caller is to wait for that
                self._rests_until = asyncio.get_running_loop().time() + limits.FIRST_USE_REST_S
        except CatalogError as error:
            self._complain(host, str(error))
        finally:
            self._asking.discard(host)
            if host in self._wanted:
                self._turns.put_nowait(host)
            question.tell()

    async def _look(self, host: str, question: _Question) -> None:
        """Reads what is registered on a host at these ports or by these names, and waits until it is in force."""
        said = await self._catalog.read(service_path(NODE, host))
        question.is_read = True
        names = services_at(said.body, question.of)
        if not names:
            return
        await self._follower.hear(names, host, question.of)
        await self.rounds.settle()

    def _complain(self, host: str, why: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._complained_at >= limits.CATALOG_COMPLAIN_S:
            self._complained_at = now
            _log.warning("first_use_not_read", host=host, error=why, effect="decided by what was known")
