"""What is registered on this host, where it may be of a service that is not watched: who is called through this agent is known at once."""

from collections.abc import Callable

from nodeagent.catalog.registered import NODE, services_at
from nodeagent.control.consul import Answer, service_path


class OwnServices:
    """Owned by the follower."""

    def __init__(self, host: str, on_changed: Callable[[], None]) -> None:
        """on_changed: is told when there are others than before."""
        self.path = service_path(NODE, host)
        self.names: frozenset[str] = frozenset()
        self._on_changed = on_changed

    async def take(self, answer: Answer) -> None:
        """An answer of `path`."""
        names = services_at(answer.body)
        if names != self.names:
            self.names = names
            self._on_changed()
