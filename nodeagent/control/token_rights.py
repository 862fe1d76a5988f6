"""What this token may do, as Consul tells whoever asks; nothing is needed for that.

Where it is not told (the embedded catalog, no ACLs, blocked by the operator) nothing counts as forbidden: all is as if nobody had asked.
"""

import asyncio
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Literal

import msgspec

from nodeagent import limits
from nodeagent.control.consul import Catalog, CatalogRefused
from nodeagent.control.proof import FORBIDDEN, NOT_SERVED
from nodeagent.errors import CatalogError

AUTHORIZE = "/v1/internal/acl/authorize"
_AT_ONCE = 64  # more Consul refuses
_NONE = "ACL not found"
"""So Consul says that a token is none any more."""

Resource = Literal["node", "intention"]


class _Right(msgspec.Struct, rename="pascal"):
    """An answer to one question."""

    segment: str
    allow: bool


class TokenRights:
    """Owned by whoever asks."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._silent_until = 0.0
        """By the loop's clock: it has just said that it tells nothing."""
        self._refusals = 0
        """How often in a row."""

    async def forbidden(self, resource: Resource, names: Iterable[str], known: AbstractSet[str] = frozenset()) -> frozenset[str]:
        """Which of these this token may not read.

        known: those of them that it might not when it was told last. One refusal to tell may be a passing one, and changes nothing of
        that; the next, CATALOG_COMPLAIN_S later, does.

        Raises:
            CatalogError: the catalog could not be asked.
        """
        asked, found = sorted(set(names)), set[str]()
        for start in range(0, len(asked), _AT_ONCE):
            some = asked[start : start + _AT_ONCE]
            told = None if asyncio.get_running_loop().time() < self._silent_until else await self._ask(resource, some)
            if told is not None:
                found |= told
                self._refusals = 0
            elif self._refusals == 1:
                found |= known & set(some)
        return frozenset(found)

    async def _ask(self, resource: Resource, names: list[str]) -> set[str] | None:
        """None: it is not told."""
        questions = [{"Resource": resource, "Access": "read", "Segment": name} for name in names]
        try:
            rights = msgspec.json.decode(await self._catalog.post(AUTHORIZE, questions), type=list[_Right])
        except CatalogRefused as error:
            if _NONE in str(error):
                return set(names)
            if error.status not in (*FORBIDDEN, *NOT_SERVED):
                raise
            self._silent_until = asyncio.get_running_loop().time() + limits.CATALOG_COMPLAIN_S
            self._refusals += 1
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise CatalogError(f"{AUTHORIZE}: {error}") from error
        return set(names) - {right.segment for right in rights if right.allow}
