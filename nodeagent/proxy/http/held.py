"""What a worker holds for all requests together."""

import os
from collections.abc import Callable
from typing import Protocol

from nodeagent import limits
from nodeagent.config import Config
from nodeagent.errors import AgentError, PolicyChanged
from nodeagent.model.snapshot import Snapshot
from nodeagent.observe.requests import RequestCounts
from nodeagent.proxy.http.connections import Connections
from nodeagent.proxy.http.pool import OriginPool
from nodeagent.proxy.http.routing import Router
from nodeagent.proxy.http.rules import Rules
from nodeagent.proxy.http.sharing import Sharing


class Switched(Protocol):
    """A connection on which another protocol is spoken: its one request is not over while it lasts."""

    def cut(self, error: AgentError) -> None:
        """Ends it, for this reason."""

    def defect(self, error: Exception) -> None:
        """The same for an unexpected one."""


class Http:
    """Owned by the worker's loop."""

    def __init__(self, config: Config, snapshot: Callable[[], Snapshot]) -> None:
        """snapshot: that of the moment."""
        self.requests = RequestCounts(config.log.requests)
        self.rules = Rules()
        self.origins = OriginPool()
        self.router = Router(config.host.workers or min(os.cpu_count() or 1, limits.WORKERS_USUAL))
        self.switched: dict[Switched, Callable[[Snapshot], None]] = {}
        """With what asks once more for the request that began it, and raises as it did."""
        self.sharing = Sharing(self.router.dispatch, snapshot)
        self.connections = Connections(self.router.dispatch, self.origins, self.sharing, snapshot)
        self.is_draining = False
        """Whether answers say that they are the last of their connection."""

    def follow(self, snapshot: Snapshot) -> None:
        """Cuts what this snapshot would not let begin. Requests that are going on are left alone: they end by themselves."""
        for each in list(self.switched):
            self._ask(each, snapshot)

    def switch(self, each: Switched, ask: Callable[[Snapshot], None], snapshot: Snapshot) -> None:
        """Another protocol begins. It may be long since its request was let in."""
        self.switched[each] = ask
        self._ask(each, snapshot)

    def _ask(self, each: Switched, snapshot: Snapshot) -> None:
        try:
            self.switched[each](snapshot)
        except AgentError as error:
            each.cut(PolicyChanged(f"a change of policy ended it: {error}"))
        except Exception as error:  # noqa: BLE001 - an unexpected error denies
            each.defect(error)

    def drain(self) -> None:
        """The worker takes no more connections: those that are open end after an answer, and none is kept for another request."""
        self.is_draining = True
        self.origins.close()
