"""How many questions may wait at the catalog at once, and for how long.

A Consul agent does not notice that whoever waited is gone: it keeps the connection until the wait is over, and counts it among
those that one address may have (200 by its own default). With a full set of its own beside those of its predecessor an agent that
starts would be refused until then, and so would everybody else on the host.
"""

from collections.abc import Callable
from contextlib import suppress

from nodeagent import limits
from nodeagent.control.agent_self import is_embedded
from nodeagent.control.consul import Catalog
from nodeagent.errors import CatalogError

WAIT_S = limits.CONSUL_WAIT_S * 17 / 16
"""The longest wait, with what Consul adds."""


class Room:
    """Owned by the follower."""

    def __init__(self, catalog: Catalog, elapsed: Callable[[], float]) -> None:
        self._catalog = catalog
        self._elapsed = elapsed
        self._began_at = elapsed()
        self._is_agent: bool | None = None
        """Whether the catalog was a Consul agent; None: not known, and it may be one."""

    async def look(self, wanted: int) -> None:
        """Finds out whose the room is, where more than `watches` may be wanted."""
        if self._is_agent is None and wanted > limits.CATALOG_WATCHES_AT_START and self._is_new():
            with suppress(CatalogError):
                self._is_agent = not await is_embedded(self._catalog)

    def watches(self) -> int:
        """How many there may be now."""
        first = limits.CATALOG_WATCHES_AT_START if self._is_new() and self._is_agent is not False else limits.CATALOG_WATCHES
        return min(first, limits.CATALOG_WATCHES)

    def wait_s(self) -> float:
        """How long a question may wait now: whoever starts once more would be refused for as long."""
        return limits.CATALOG_PULSE_WAIT_S if self._is_new() and self._is_agent is not False else limits.CONSUL_WAIT_S

    def _is_new(self) -> bool:
        return self._elapsed() - self._began_at < WAIT_S
