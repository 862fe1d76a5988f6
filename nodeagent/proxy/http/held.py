"""What a worker holds for all requests together."""

import os
from collections.abc import Callable

from nodeagent import limits
from nodeagent.config import Config
from nodeagent.model.snapshot import Snapshot
from nodeagent.observe.requests import RequestCounts
from nodeagent.proxy.http.connections import Connections
from nodeagent.proxy.http.pool import OriginPool
from nodeagent.proxy.http.routing import Router
from nodeagent.proxy.http.rules import Rules
from nodeagent.proxy.http.sharing import Sharing


class Http:
    """Owned by the worker's loop."""

    def __init__(self, config: Config, snapshot: Callable[[], Snapshot]) -> None:
        """snapshot: that of the moment."""
        self.requests = RequestCounts(config.log.requests)
        self.rules = Rules()
        self.origins = OriginPool()
        self.router = Router(config.host.workers or min(os.cpu_count() or 1, limits.WORKERS_USUAL))
        self.sharing = Sharing(self.router.dispatch, snapshot)
        self.connections = Connections(self.router.dispatch, self.origins, self.sharing, snapshot)
        self.is_draining = False
        """Whether answers say that they are the last of their connection."""

    def drain(self) -> None:
        """The worker takes no more connections: those that are open end after an answer, and none is kept for another request."""
        self.is_draining = True
        self.origins.close()
