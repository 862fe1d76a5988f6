"""Hosts that a catalog shows no more: are they gone, or may this token not read them any more?

Consul leaves a host's row out, and all instances there, where the token lost the right to read that host, and says so nowhere. It
tells whoever asks what a token may do; nothing is needed for that. Where it is not asked, or has no ACLs, what is not shown is gone.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator

import msgspec

from nodeagent import limits
from nodeagent.control.consul import Catalog, CatalogRefused
from nodeagent.control.proof import NOT_SERVED
from nodeagent.errors import CatalogError

AUTHORIZE = "/v1/internal/acl/authorize"
_AT_ONCE = 64  # more Consul refuses
_SILENT = ("ACL support disabled", "blocked by agent configuration")
"""Whoever says so tells nothing of rights."""


class _Right(msgspec.Struct, rename="pascal"):
    """An answer to one question."""

    segment: str
    allow: bool


class HiddenHosts:
    """Owned by the follower."""

    def __init__(self, catalog: Catalog) -> None:
        self.names: frozenset[str] = frozenset()
        """Those that were found to be hidden and not been asked for since."""
        self._catalog = catalog
        self._silent_until = 0.0
        """By the loop's clock: it has just said that it tells nothing."""

    async def look(self, hosts: Iterable[str]) -> frozenset[str]:
        """Which of these, that are not shown, this token may not read.

        Raises:
            CatalogError: the catalog could not be asked.
        """
        asked = sorted(set(hosts)) if asyncio.get_running_loop().time() >= self._silent_until else []
        found = frozenset([name for some in _parts(asked) for name in await self._ask(some)])
        self.names = (self.names - frozenset(asked)) | found
        return found

    def forget_shown(self, hosts: Collection[str]) -> None:
        """These are shown."""
        self.names -= frozenset(hosts)

    async def _ask(self, hosts: list[str]) -> list[str]:
        questions = [{"Resource": "node", "Access": "read", "Segment": name} for name in hosts]
        try:
            rights = msgspec.json.decode(await self._catalog.post(AUTHORIZE, questions), type=list[_Right])
        except CatalogRefused as error:
            if error.status in NOT_SERVED or any(words in str(error) for words in _SILENT):
                self._silent_until = asyncio.get_running_loop().time() + limits.CATALOG_COMPLAIN_S
                return []
            if error.status == 403:  # the token itself is none any more
                return hosts
            raise
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise CatalogError(f"{AUTHORIZE}: {error}") from error
        allowed = {right.segment for right in rights if right.allow}
        return [name for name in hosts if name not in allowed]


def why_hidden(hosts: Collection[str]) -> str:
    """In words: the right that is missing."""
    name = min(hosts)
    more = f", and {len(hosts) - 1} more" if len(hosts) > 1 else ""
    return f'the token may not read the host (give it node "{name}" {{ policy = "read" }}{more})'


def _parts(hosts: list[str]) -> Iterator[list[str]]:
    return (hosts[start : start + _AT_ONCE] for start in range(0, len(hosts), _AT_ONCE))
