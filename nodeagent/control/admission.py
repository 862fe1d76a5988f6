"""What of an answer with services' instances counts: what they lost, and whether that is proven."""

from collections.abc import Callable, Mapping

from nodeagent.catalog.claims import since_moved
from nodeagent.catalog.renamed import Renamed
from nodeagent.catalog.state import MARKER_SERVICE
from nodeagent.control.announce import Announcer
from nodeagent.control.consul import Catalog
from nodeagent.control.environment import Environment
from nodeagent.control.foreign import Foreign
from nodeagent.control.forgotten import NOTHING, Forgotten, Kept
from nodeagent.control.hidden import HiddenHosts
from nodeagent.control.hold_back import Admitted, HoldBack, Rows, is_suspicious, lost_rows
from nodeagent.control.lately import Lately, there
from nodeagent.control.proof import service_doubts
from nodeagent.control.seen import Seen

FILTERED = "the catalog left out what the token may not read; give it service:read and intentions:read; what was known before stays in force"
AWAY = "the catalog was away, and it is not known yet whether it is an older one"
REWOUND = "the catalog is an older one than before"


class Admission:
    """Owned by the follower."""

    def __init__(
        self, catalog: Catalog, seen: Seen, announcer: Announcer, host: str, env: Environment, on_change: Callable[[], None]
    ) -> None:  # fmt: skip
        self.held: dict[str, str] = {}
        """What is held back, by service, in words."""
        self.hidden = HiddenHosts(catalog, on_change)
        self.foreign = Foreign(catalog)
        """Whether another cluster answers; who knows the trust domain in force tells it."""
        self._catalog = catalog
        self._seen = seen
        self._host = host
        self._env = env
        self._renamed = Renamed()
        self._hold_back = HoldBack()
        self._forgotten = Forgotten(catalog, announcer, host)
        self._lately = Lately(host)
        self._first: set[str] = set()
        """Services of which something that was saved is held since their first answer."""

    @property
    def is_sane(self) -> bool:
        """Whether the catalog answers, and shows this host."""
        return not self._catalog.is_away and any(host.name == self._host for host in self._seen.hosts or ())

    @property
    def is_waiting(self) -> bool:
        """Whether something is to be let go in time, without another word of the catalog."""
        return bool(self._lately)

    async def doubts(self, answers: Mapping[str, Rows], *, is_filtered: bool) -> dict[str, str]:
        """Why what these services lost is not proven, by service; of those that lost nothing, or not enough, there is nothing."""
        suspects = [name for name, rows in answers.items() if self._is_suspect(name, rows)]
        if is_filtered:
            return dict.fromkeys(suspects, FILTERED)
        if suspects and (why := await self.foreign.why()):
            return dict.fromkeys(suspects, why)
        return await service_doubts(self._catalog, suspects, self._host, self._env.draw())

    def _is_suspect(self, service: str, rows: Rows) -> bool:
        """Whether it lost more than half, or what is to be here, or still lacks what is held."""
        before = there(self._seen.before(service))
        if not before:  # of thousands that are heard for the first time
            return False
        own = self._forgotten.own(service, lost_rows(before, rows))
        return is_suspicious(before, rows) or bool(own or lost_rows(self._seen.held.get(service, ()), rows))

    async def unseen(self, answers: Mapping[str, Rows]) -> frozenset[str]:
        """Hosts from which these services lost an instance, as this token may not read them."""
        lost = {row.instance.host for name, rows in answers.items() for row in lost_rows(there(self._seen.before(name)), rows)}
        return await self.hidden.look(lost)

    async def here(self, service: str, rows: Rows, doubt: str) -> Kept:
        """What an answer lacks of this host's own instances, and is here all the same; as Forgotten.kept."""
        lost = lost_rows(there(self._seen.before(service)), rows)
        return await self._forgotten.kept(service, lost, doubt, "" if self._catalog.is_settled else AWAY)

    def judge(self, service: str, rows: Rows, doubt: str, hidden: frozenset[str], own: Kept = NOTHING) -> Admitted:
        """What counts of an answer, of which `doubts`, `unseen` and `here` said that."""
        known, older = self._known(service), self._older()
        rows, before, is_first = since_moved(known, rows), there(known), service in self._first or service not in self._seen.instances
        if is_first and not (doubt or older):  # what went while nobody was here is held for nobody; what is hidden is not gone
            before = tuple(row for row in before if row.instance.host in hidden)
        now, listed = self._env.elapsed(), rows + own.rows  # of `own` nobody else's claim takes anything, as of what is held
        admitted = self._hold_back.admit(service, before, listed, doubt=doubt, now=now, hidden=hidden, older=older)
        (self._first.add if is_first and admitted.lost and (doubt or older) else self._first.discard)(service)
        return Admitted(admitted.rows, admitted.lost, admitted.why or own.why)

    def _known(self, service: str) -> Rows:
        """What was known of it. Of agents also those were saved that were marked in their hosts' own rows: where they still are nothing vanished."""
        known = self._seen.before(service)
        if service != MARKER_SERVICE:
            return known
        marked = {host.name for host in self._seen.hosts or () if host.tunnel_port}
        return tuple(row for row in known if row.instance.host not in marked)

    def _older(self) -> str:
        """Why the catalog may be an older one than before; empty: it is none."""
        return REWOUND if self._catalog.is_rewound else "" if self._catalog.is_settled else AWAY

    def put(self, service: str, admitted: Admitted) -> None:
        """Notes what is in force: that, and what is gone by now, as some may have been let go since `judge`; and what is held."""
        known, rows = self._seen.before(service), admitted.rows
        if service != MARKER_SERVICE:
            rows = self._lately.admit(service, known, rows, self._env.elapsed())
        self._seen.instances[service] = self._renamed.take(service, known, rows)
        self._seen.held[service] = admitted.lost
        self.held.pop(service, None)
        if admitted.why:
            self.held[service] = admitted.why

    def remember(self, saved: Mapping[str, Rows]) -> None:
        """Takes over what was saved of services before this process started."""
        self._seen.saved = dict(saved)
        for service, rows in saved.items():
            self._renamed.take(service, rows, rows)

    def let_go(self) -> bool:
        """Takes out of force what is gone for long enough; whether there was any."""
        expired = list(self._lately.expired(self._seen.instances, self._env.elapsed(), is_sane=self.is_sane))
        for service, rows in expired:
            self._seen.instances[service] = rows
        return bool(expired)

    def alarms(self) -> tuple[str, ...]:
        """What is held back, or went together with its host, in words."""
        return (*(self.held[service] for service in sorted(self.held)), *self._lately.alarms(self._seen.instances, (host.name for host in self._seen.hosts or ())))
