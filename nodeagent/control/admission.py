"""What of an answer with services' instances counts: what they lost, and whether that is proven."""

from collections.abc import Callable, Mapping

from nodeagent.catalog.claims import since_moved
from nodeagent.control.consul import Catalog
from nodeagent.control.environment import Environment
from nodeagent.control.hidden import HiddenHosts
from nodeagent.control.hold_back import Admitted, HoldBack, Rows, is_suspicious, lost_rows
from nodeagent.control.proof import service_doubts
from nodeagent.control.seen import Seen

FILTERED = "the catalog left out what the token may not read; give it service:read and intentions:read; what was known before stays in force"


class Admission:
    """Owned by the follower."""

    def __init__(self, catalog: Catalog, seen: Seen, host: str, env: Environment, on_change: Callable[[], None]) -> None:
        self.held: dict[str, str] = {}
        """What is held back, by service, in words."""
        self.hidden = HiddenHosts(catalog, on_change)
        self._catalog = catalog
        self._seen = seen
        self._host = host
        self._env = env
        self._hold_back = HoldBack()

    async def doubts(self, answers: Mapping[str, Rows], *, is_filtered: bool) -> dict[str, str]:
        """Why what these services lost is not proven, by service; of those that lost nothing, or not enough, there is nothing."""
        suspects = [name for name, rows in answers.items() if is_suspicious(self._seen.before(name), rows)]
        if is_filtered:
            return dict.fromkeys(suspects, FILTERED)
        return await service_doubts(self._catalog, suspects, self._host, self._env.draw())

    async def unseen(self, answers: Mapping[str, Rows]) -> frozenset[str]:
        """Hosts from which these services lost an instance, as this token may not read them."""
        lost = {row.instance.host for name, rows in answers.items() for row in lost_rows(self._seen.before(name), rows)}
        return await self.hidden.look(lost)

    def unsettled(self, service: str, rows: Rows) -> str:
        """Why nothing of an answer counts yet; empty: it does."""
        if self._catalog.is_settled or not is_suspicious(self._seen.before(service), rows):
            return ""
        return f"{service}: instances vanished while the catalog was away; kept until it is known whether it is an older one"

    def judge(self, service: str, rows: Rows, doubt: str, hidden: frozenset[str]) -> Admitted:
        """What is in force of an answer, of which `doubts` and `unseen` said that."""
        before, is_rewound = self._seen.before(service), self._catalog.is_rewound
        rows = since_moved(before, rows)
        if not (doubt or is_rewound) and service not in self._seen.instances:  # what went while nobody was here is held for nobody
            before = ()
        now = self._env.elapsed()
        return self._hold_back.admit(service, before, rows, doubt=doubt, now=now, hidden=hidden, is_rewound=is_rewound)

    def put(self, service: str, admitted: Admitted) -> None:
        """Notes what is in force, and what is held."""
        self._seen.instances[service] = admitted.rows
        self._seen.held[service] = admitted.lost
        self.held.pop(service, None)
        if admitted.why:
            self.held[service] = admitted.why
