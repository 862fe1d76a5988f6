"""What is in force of a service whose answer lacks instances: who runs here, what is held back, and what is gone since a while."""

from collections.abc import Callable, Iterator, Mapping

from nodeagent.catalog.claims import since_moved
from nodeagent.catalog.state import MARKER_SERVICE
from nodeagent.control.announce import Announcer
from nodeagent.control.consul import Catalog
from nodeagent.control.foreign import Foreign
from nodeagent.control.forgotten import Forgotten
from nodeagent.control.hold_back import Admitted, HoldBack, Rows, is_suspicious, lost_rows
from nodeagent.control.lately import Lately, there
from nodeagent.control.proof import service_doubts
from nodeagent.control.seen import Seen


class Losses:
    """Owned by the follower."""

    def __init__(self, catalog: Catalog, announcer: Announcer, seen: Seen, host: str, elapsed: Callable[[], float]) -> None:
        self.foreign = Foreign(catalog)
        """Whether another cluster answers; who knows the trust domain in force tells it."""
        self._catalog = catalog
        self._seen = seen
        self._host = host
        self._elapsed = elapsed
        self._forgotten = Forgotten(catalog, announcer, host)
        self._hold_back = HoldBack()
        self._lately = Lately(host)

    @property
    def is_waiting(self) -> bool:
        """Whether something is to be let go in time, without another word of the catalog."""
        return bool(self._lately)

    async def doubts(self, answers: Mapping[str, Rows], filtered: str) -> dict[str, str]:
        """Why what these services lost is not proven, by service; of those that lost nothing, or not enough, there is nothing.

        filtered: that the catalog says itself that it left something out.

        Raises:
            CatalogError: the catalog could not be asked.
        """
        suspects = [name for name, rows in answers.items() if self._is_suspect(name, rows)]
        why = filtered or (suspects and await self.foreign.why())
        return dict.fromkeys(suspects, why) if why else await service_doubts(self._catalog, suspects, self._host)

    def _is_suspect(self, service: str, rows: Rows) -> bool:
        before = there(self._seen.before(service))
        if not before:  # of thousands that are heard for the first time
            return False
        return is_suspicious(before, rows) or bool(self._forgotten.own(service, lost_rows(before, rows)))

    def why_unsettled(self, service: str, answer: Rows) -> str:
        """Why nothing is to be made of an answer yet; empty: it is to be admitted."""
        if not self._is_suspect(service, answer) or self._catalog.is_settled:
            return ""
        return f"{service}: instances vanished while the catalog was away; kept until it is known whether it is an older one"

    async def admit(self, service: str, answer: Rows, doubt: str) -> Admitted:
        """What is in force after that answer. doubt: of `doubts`; empty: there is none.

        Raises:
            CatalogError: the catalog could not be asked.
        """
        known, is_rewound, now = self._seen.before(service), self._catalog.is_rewound, self._elapsed()
        rows, before = since_moved(known, answer), there(known)
        own = await self._forgotten.kept(service, lost_rows(before, rows), doubt)
        if not (doubt or is_rewound) and service not in self._seen.instances:  # what went while nobody was here is held for nobody
            before = ()
        admitted = self._hold_back.admit(service, before, rows + own.rows, doubt=doubt, now=now, is_rewound=is_rewound)
        in_force = admitted.rows if service == MARKER_SERVICE else self._lately.admit(service, known, admitted.rows, now)
        return Admitted(in_force, admitted.lost, admitted.why or own.why)  # of `own` nobody else's claim takes anything

    def let_go(self, *, is_sane: bool) -> bool:
        """Takes out of force what is gone for long enough; whether there was any. is_sane: as Lately.expired."""
        expired = list(self._lately.expired(self._seen.instances, self._elapsed(), is_sane=is_sane))
        for service, rows in expired:
            self._seen.instances[service] = rows
        return bool(expired)

    def alarms(self) -> Iterator[str]:
        """What went together with its host, in words."""
        return self._lately.alarms(self._seen.instances, (host.name for host in self._seen.hosts or ()))
