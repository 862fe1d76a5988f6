"""This host in the catalog: its row where we keep it, or a service told to the local Consul agent, which keeps the row itself."""

import asyncio
from collections.abc import Callable

import aiohttp

from nodeagent import limits
from nodeagent.catalog.state import MARKER_SERVICE, InstanceRow, parse_instances
from nodeagent.config import Config
from nodeagent.control.agent_self import read_self
from nodeagent.control.consul import Catalog, CatalogRefused
from nodeagent.control.pace import next_index
from nodeagent.control.registration import is_marked, is_registered, marker_of, registration_of
from nodeagent.errors import CatalogError
from nodeagent.model.service import Host
from nodeagent.observe.log import open_log

_REGISTER, _MARKERS = "/v1/agent/service/register", f"/v1/health/service/{MARKER_SERVICE}"
_NOT_SERVED = (404, 405, 501)
_LOOK_S = 0.1
_UNSHOWN = (
    "the Consul agent was told that this host takes tunnels, and its servers do not show it; may this host's token "
    f'write and read service "{MARKER_SERVICE}", and read its node?'
)

_log = open_log()


class Announcer:
    """Owned by the follower. Both checks raise CatalogError where this host is not in the catalog as it is, and say why."""

    def __init__(self, config: Config, catalog: Catalog, elapsed: Callable[[], float]) -> None:
        self._config = config
        self._catalog = catalog
        self._elapsed = elapsed
        self._has_agent: bool | None = None
        """Whether the catalog is the local agent of a Consul; None: not asked yet."""
        self._was_shown = False
        """Whether the catalog ever showed this host."""
        self._forgotten_at = -limits.HOLD_BACK_S
        """When it did not any more, last."""
        self._registered_at = self._answered_at = self._told_at = -limits.CATALOG_COMPLAIN_S

    @property
    def is_told_agent(self) -> bool:
        """Whether the catalog is known to be this host's Consul agent."""
        return bool(self._has_agent)

    async def has_agent(self) -> bool:
        """Whether the catalog is this host's Consul agent.

        Raises:
            CatalogError: it could not be asked, or is another host's.
        """
        if self._has_agent is None:
            self._has_agent = await self._find_agent()
        return self._has_agent

    @property
    def why_forgotten(self) -> str:
        """Why it proves nothing that the catalog shows this host: it does so by this agent's own word; empty: it may."""
        left_s = limits.HOLD_BACK_S - (self._elapsed() - self._forgotten_at)
        return f"the catalog had forgotten this host, which was registered anew; for {left_s:.0f} s more" if left_s > 0 else ""

    async def check_hosts(self, hosts: tuple[Host, ...], markers: tuple[InstanceRow, ...]) -> None:
        """After each answer with all hosts. A refusal is shown, and tried again with the next answer."""
        self._note_shown(hosts)
        if is_registered(self._config, hosts) or is_marked(self._config, markers):
            return
        if await self.has_agent():
            await self._tell_agent()
        else:
            await self._register(hosts)

    def remember(self, hosts: tuple[Host, ...], *, is_forgotten: bool = False) -> None:
        """What the catalog showed before this process started. is_forgotten: by that process's own word, whose time begins anew."""
        self._was_shown = any(host.name == self._config.host.name for host in hosts)
        if is_forgotten:
            self._forgotten_at = self._elapsed()

    def _note_shown(self, hosts: tuple[Host, ...]) -> None:
        is_shown = any(host.name == self._config.host.name for host in hosts)
        if self._was_shown and not is_shown:
            self._forgotten_at = self._elapsed()
        self._was_shown = self._was_shown or is_shown

    async def check_markers(self, hosts: tuple[Host, ...], rows: tuple[InstanceRow, ...]) -> None:
        """After each answer with all hosts' markers: what was lost, or changed, is told again. hosts: as they were heard last."""
        if self._has_agent is False or is_registered(self._config, hosts) or is_marked(self._config, rows):
            return
        if await self.has_agent():
            await self._tell_agent()

    async def _find_agent(self) -> bool:
        """Whether a Consul agent answers, and is this host's own.

        Raises:
            CatalogError: it is another host's, of another datacenter, or may not be asked.
        """
        name, datacenter = self._config.host.name, self._config.host.datacenter
        try:
            found = await read_self(self._catalog)
        except CatalogRefused as error:
            if error.status in _NOT_SERVED:
                return False
            cure = f'; the token needs agent "{name}" {{ policy = "read" }}' if "Permission denied" in str(error) else ""
            raise CatalogError(f"this host could not be registered: {error}{cure}") from error
        except CatalogError as error:
            raise CatalogError(f"this host could not be registered: {error}") from error
        if not found.node_id:
            return False
        if found.node_name != name:
            cure = "give the address of this host's own agent, or its name as host.name"
            raise CatalogError(f"catalog.address leads to the Consul agent of {found.node_name!r}, and this host is {name!r}: {cure}")
        if found.datacenter != datacenter:
            raise CatalogError(f"host.datacenter is {datacenter!r}, and the Consul agent's is {found.datacenter!r}: give that")
        return True

    async def _tell_agent(self) -> None:
        """Tells the local agent, and waits until its servers show it, which takes milliseconds.

        Where they do not it is told once a minute: the agent tries by itself, and each try costs its servers a write.
        """
        if self._elapsed() - self._told_at < limits.CATALOG_COMPLAIN_S:
            raise CatalogError(_UNSHOWN)
        try:
            await self._catalog.put(_REGISTER, marker_of(self._config))
        except CatalogError as error:
            self._has_agent = None  # it may be another catalog by now
            raise CatalogError(f"this host could not be registered: {error}") from error
        self._told_at = self._elapsed()
        await self._await_shown()
        self._told_at = -limits.CATALOG_COMPLAIN_S  # what is lost after that is news
        _log.info("host_registered", host=self._config.host.name, by="agent")

    async def _await_shown(self) -> None:
        """Ends when the servers show the mark; asks them for news of it alone."""
        end, index = self._elapsed() + limits.MARKER_SHOWN_S, 0
        while True:
            answer = await self._catalog.read(_MARKERS, index, max(end - self._elapsed(), 1.0))  # Consul takes 0 for its default
            if is_marked(self._config, parse_instances(MARKER_SERVICE, answer.body)):
                return
            if self._elapsed() >= end:
                raise CatalogError(_UNSHOWN)
            index = next_index(index, answer.index)
            await asyncio.sleep(_LOOK_S)  # each host of the mesh may change its mark, too

    async def _register(self, hosts: tuple[Host, ...]) -> None:
        """Puts this host's row back.

        A row that is there and differs is replaced once a minute: two machines of one name would otherwise replace
        each other's for ever, and wake every host of the mesh each time.
        """
        name, now = self._config.host.name, self._elapsed()
        if any(host.name == name for host in hosts) and now - self._registered_at < limits.CATALOG_COMPLAIN_S:
            is_answered = self._answered_at == self._registered_at
            somebody = "was changed by somebody; has another machine this name?"
            unsure = "differs: the last write of it got no answer, or another machine has this name"
            raise CatalogError(f"the catalog's row of {name} {somebody if is_answered else unsure}")
        before, self._registered_at = self._registered_at, now
        try:
            await self._catalog.put("/v1/catalog/register", registration_of(self._config))
        except CatalogError as error:
            is_unsent = isinstance(error.__cause__, aiohttp.ClientConnectorError)
            if is_unsent or isinstance(error, CatalogRefused):  # else it may be written all the same
                self._registered_at = before
            if isinstance(error, CatalogRefused):
                self._has_agent = None  # it may be another catalog by now
            raise CatalogError(f"this host could not be registered: {error}") from error
        self._answered_at = now
        _log.info("host_registered", host=name)
