"""Hosts that a catalog shows no more: are they gone, or may this token not read them any more?

Consul leaves a host's row out, and all instances there, where the token lost the right to read that host, and says so nowhere. So
it is asked for the right.
"""

from collections.abc import Callable, Collection, Iterable

from nodeagent.control.consul import PULSE, Answer, Catalog
from nodeagent.control.token_rights import TokenRights

NODES = PULSE


class HiddenHosts:
    """Owned by the follower."""

    def __init__(self, catalog: Catalog, on_change: Callable[[], None]) -> None:
        """on_change: is told when hosts that were hidden were asked for again."""
        self.names: frozenset[str] = frozenset()
        """Those that were found to be hidden and not been asked for since."""
        self._catalog = catalog
        self._rights = TokenRights(catalog)
        self._on_change = on_change

    async def read(self, index: int, wait_s: float) -> Answer:
        """As Catalog.read, of the hosts. Those that are hidden are asked for each time: of the right to read them there is no news.

        Raises:
            CatalogError: as Catalog.read.
        """
        answer = await self._catalog.read(NODES, index, wait_s)
        if self.names:
            await self.look(self.names)
            self._on_change()
        return answer

    async def look(self, hosts: Iterable[str]) -> frozenset[str]:
        """Which of these, that are not shown, this token may not read.

        Raises:
            CatalogError: the catalog could not be asked.
        """
        asked = frozenset(hosts)
        found = await self._rights.forbidden("node", asked, self.names)
        self.names = (self.names - asked) | found
        return found

    def forget_shown(self, hosts: Collection[str]) -> None:
        """These are shown."""
        self.names -= frozenset(hosts)


def why_hidden(hosts: Collection[str]) -> str:
    """In words: the right that is missing."""
    name = min(hosts)
    more = f", and {len(hosts) - 1} more" if len(hosts) > 1 else ""
    return f'the token may not read the host (give it node "{name}" {{ policy = "read" }}{more})'
