"""Hosts that a catalog shows no more: are they gone, or may this token not read them any more?

Consul leaves a host's row out, and all instances there, where the token lost the right to read that host, and says so nowhere. So
it is asked for the right.
"""

from collections.abc import Collection, Iterable

from nodeagent.control.consul import Catalog
from nodeagent.control.token_rights import TokenRights


class HiddenHosts:
    """Owned by the follower."""

    def __init__(self, catalog: Catalog) -> None:
        self.names: frozenset[str] = frozenset()
        """Those that were found to be hidden and not been asked for since."""
        self._rights = TokenRights(catalog)

    async def look(self, hosts: Iterable[str]) -> frozenset[str]:
        """Which of these, that are not shown, this token may not read.

        Raises:
            CatalogError: the catalog could not be asked.
        """
        asked = frozenset(hosts)
        found = await self._rights.forbidden("node", asked)
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
