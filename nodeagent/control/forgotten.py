"""What runs on this host though the catalog has it no more: its ports stay protected, and its peers' calls are answered.

A Consul agent has its host's services by itself, and brings back what the servers have forgotten: what it still has is here. The
embedded catalog is told by hosts alone: where it had forgotten this very host, and was told of it again by this agent, that is no
proof of anything for HOLD_BACK_S.
"""

from typing import NamedTuple

import msgspec

from nodeagent.catalog.state import MARKER_SERVICE
from nodeagent.control.announce import Announcer
from nodeagent.control.consul import Catalog
from nodeagent.control.hold_back import Rows
from nodeagent.errors import CatalogError

LOCAL = "/v1/agent/services"


class _Local(msgspec.Struct, rename="pascal"):
    """A service of this host, as its Consul agent has it."""

    service: str


class Kept(NamedTuple):
    """What stays in force of this host's own instances."""

    rows: Rows = ()
    why: str = ""
    """The alarm; empty where nothing is kept."""


NOTHING = Kept()


class Forgotten:
    """Owned by the follower."""

    def __init__(self, catalog: Catalog, announcer: Announcer, host: str) -> None:
        self._catalog = catalog
        self._announcer = announcer
        self._host = host

    def own(self, service: str, rows: Rows) -> Rows:
        """Those of them that are this host's; of agents none."""
        return tuple(row for row in rows if row.instance.host == self._host) if service != MARKER_SERVICE else ()

    async def kept(self, service: str, lost: Rows, doubt: str) -> Kept:
        """What of `lost` is here all the same. doubt: why it is not even proven that it is lost; empty: it is.

        Raises:
            CatalogError: it could not be asked for what is here.
        """
        own = self.own(service, lost)
        if not own:
            return NOTHING
        why = doubt
        if not why and await self._announcer.has_agent():
            has = await self._local(service)
            own = tuple(row for row in own if row.instance.id in has)
            why = "this host's Consul agent still has it" if own else ""
        elif not why:
            why = self._announcer.why_forgotten
        if not why:
            return NOTHING
        return Kept(own, f"{service}: the catalog has forgotten that it runs on this host; its port stays protected, and calls are answered: {why}")

    async def _local(self, service: str) -> set[str]:
        """The ids under which the local Consul agent has the service."""
        body = (await self._catalog.read(LOCAL)).body
        try:
            local = msgspec.json.decode(body, type=dict[str, _Local])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise CatalogError(f"{LOCAL}: {error}") from error
        return {id_ for id_, each in local.items() if each.service.lower() == service.lower()}
