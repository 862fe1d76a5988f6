"""Where this catalog keeps intentions, found out by asking, and whether a list from which some are missing is the truth."""

from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import quote

from nodeagent import limits
from nodeagent.catalog.legacy_intentions import LEGACY_INTENTIONS, is_unknown_kind, parse_legacy_intentions
from nodeagent.catalog.state import IntentionRow, parse_intentions
from nodeagent.control.consul import Answer, Catalog, CatalogRefused
from nodeagent.model.intention import ANY

ENTRIES = "/v1/config/service-intentions"
_MATCH = "/v1/connect/intentions/match?by=destination&name="
_ANYBODY = "nodeagent-proof"  # a name without rules of its own: what every service's intentions are read by
_NOT_SERVED = (404, 405, 501)

Rows = tuple[IntentionRow, ...]


class IntentionSource:
    """Config entries, or rows of their own where the server keeps no such entries. Owned by one watch."""

    def __init__(self, catalog: Catalog) -> None:
        self.is_legacy = False
        self._catalog = catalog

    async def read(self, index: int, wait_s: float) -> Answer:
        """As Catalog.read. Entries are asked for first each time: the server may have been upgraded since.

        An index of the one means nothing to the other: with which it is changed the answer comes at once.

        Raises:
            CatalogError: as Catalog.read.
        """
        try:
            if not self.is_legacy:
                return await self._catalog.read(ENTRIES, index, wait_s)
            answer = await self._catalog.read(ENTRIES)
        except CatalogRefused as error:
            if not is_unknown_kind(str(error)):
                raise
            if self.is_legacy:
                return await self._catalog.read(LEGACY_INTENTIONS, index, wait_s)
            answer = await self._catalog.read(LEGACY_INTENTIONS)
        self.is_legacy = not self.is_legacy
        return replace(answer, index=None)  # what it counts is something else: it has not gone back

    def parse(self, answer: Answer) -> Rows:
        """The rows in what `read` gave last.

        Raises:
            CatalogError: they cannot be read.
        """
        return parse_legacy_intentions(answer.body) if self.is_legacy else parse_intentions(answer.body)


def lost_destinations(before: Iterable[IntentionRow], rows: Rows) -> tuple[str, ...]:
    """Services of which no intention speaks any more, sorted."""
    left = {row.destination for row in rows}
    return tuple(sorted({row.destination for row in before} - left))


async def why_unproven(catalog: Catalog, destinations: Iterable[str]) -> str:
    """Why it is not proven that these services have no intentions, and that the token would see them; empty: it is.

    Consul answers 200 with an empty list to a token that may not read; its question for one destination alone is
    refused then. Of many, INTENTION_PROOFS are asked for.

    Raises:
        CatalogError: the catalog could not be asked.
    """
    named = [name for name in destinations if name != ANY][: limits.INTENTION_PROOFS] or [_ANYBODY]
    for name in named:
        try:
            await catalog.read(_MATCH + quote(name, safe=""))
        except CatalogRefused as error:
            if error.status in _NOT_SERVED:
                return await _why_unknown(catalog)
            if error.status not in (401, 403):
                raise
            whom = "every service" if name == _ANYBODY else name
            return f'the token may not read the intentions of {whom} (give it intentions = "read")'
    return ""


async def _why_unknown(catalog: Catalog) -> str:
    """Where no destination can be asked for: whether the token exists, or there are no ACLs, or 403 would have been the answer."""
    try:
        await catalog.read("/v1/acl/token/self")
    except CatalogRefused as error:
        # 401: ACLs are off. 404 and 405: a catalog that refuses rather than filters.
        return "" if error.status in (401, 404, 405) else "the token does not prove that it may read them"
    return ""
