"""Whether whoever answers as the catalog is another cluster than before: then nothing is believed that it lacks.

A server that lost its data has a new CA, and with it a new trust domain. Certificates are held for HOLD_BACK_S then
(`control/trust`), and for as long services, protocols and intentions are, too.
"""

from collections.abc import Callable

from nodeagent.control.consul import Catalog, CatalogRefused
from nodeagent.control.trust import parse_roots

_ROOTS = "/v1/connect/ca/roots"
_OFF = "Connect must be enabled"  # what 1.8 says where nobody has a trust domain


class Foreign:
    """Owned by the follower."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.known: Callable[[], str] = str
        """Gives the trust domain that is in force; empty: none yet."""

    async def why(self) -> str:
        """Why nothing is believed that the catalog lacks now; empty: it is the one that it was.

        Raises:
            CatalogError: it could not be asked.
        """
        known = self.known()
        if not known:
            return ""
        try:
            answer = await self._catalog.read(_ROOTS)
        except CatalogRefused as error:
            if _OFF in str(error):
                return ""
            raise
        offered = parse_roots(answer.body).bundle.trust_domain
        return "" if offered == known else f"its trust domain is {offered} now, and {known} is in force: it is another catalog, or lost its data"
