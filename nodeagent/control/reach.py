"""Which services a host's workloads have most to do with: of the others less fresh news is enough; pure.

What is known of a service does not depend on it, only how soon: no address may be missing from a snapshot, for a call there would
leave in clear, or past the agent.
"""

from collections.abc import Callable, Collection, Iterable

from nodeagent import limits
from nodeagent.catalog.state import MARKER_SERVICE, IntentionRow
from nodeagent.catalog.traffic import Ways, led_to
from nodeagent.model.intention import ANY


class Dialled:
    """The services that were called from here lately. Owned by the follower."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        """elapsed: seconds of a clock that nobody can set."""
        self._elapsed = elapsed
        self._called_at: dict[str, float] = {}
        """The one that was called longest ago first."""

    def note(self, services: Iterable[str]) -> bool:
        """These are called; whether one of them was not, lately."""
        before = self.recent()
        for service in filter(None, services):
            self._called_at.pop(service, None)
            self._called_at[service] = self._elapsed()
        for service in [*self._called_at][: -limits.CATALOG_WATCHES]:  # more than can be watched
            del self._called_at[service]
        return not self.recent() <= before

    def recent(self) -> frozenset[str]:
        """Those called within CATALOG_DIALLED_S."""
        since = self._elapsed() - limits.CATALOG_DIALLED_S
        return frozenset(service for service, at in self._called_at.items() if at > since)


class Reach:
    """What this host's services may call, as intentions say. Owned by the follower."""

    def __init__(self) -> None:
        self.ways: Ways = {}
        """Where requests to a service lead, by its entries."""
        self._of: tuple[Collection[IntentionRow], frozenset[str]] = ((), frozenset())
        self._named: frozenset[str] = frozenset()
        self._open: frozenset[str] = frozenset()

    def nearest(
        self, names: Iterable[str], room: int, *, spoken: frozenset[str], dialled: Collection[str],
        intentions: Collection[IntentionRow], watched: Collection[str],
    ) -> frozenset[str]:  # fmt: skip
        """`room` of the names: agents, the host's own (`spoken`), those that were dialled, those that intentions name for it, then any.

        Where requests to a service lead to another one, that counts as dialled with it, and comes after those that are named with it.

        Before those that nobody here may call come those that anybody may. Of equals those that are watched stay so.
        """
        self._learn(intentions, spoken)
        called, led = led_to(self.ways, dialled) | frozenset(dialled), led_to(self.ways, self._named)

        def rank(name: str) -> tuple[int, bool, str]:
            ranks = (name == MARKER_SERVICE, name in spoken, name in called, name in self._named, name in led, name in self._open, True)
            return ranks.index(True), name not in watched, name

        return frozenset(sorted(names, key=rank)[:room])

    def _learn(self, intentions: Collection[IntentionRow], spoken: frozenset[str]) -> None:
        """There are up to CATALOG_INTENTIONS: they are looked through when they, or the host's services, are others than before."""
        if self._of[0] is intentions and self._of[1] == spoken:
            return
        self._of = intentions, spoken
        allowed = [row for row in intentions if row.word != "deny"]
        self._named = frozenset(row.destination for row in allowed if row.source in spoken)
        self._open = frozenset(row.destination for row in allowed if row.source == ANY)
