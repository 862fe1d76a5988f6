"""What was said about the requests to a service: its entries together."""

import msgspec

from nodeagent.model.policy.own import RetryBudget
from nodeagent.model.policy.resolving import ServiceResolver
from nodeagent.model.policy.routing import ServiceRouter, ServiceSplitter


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Where the requests to a service go, and how they are treated."""

    router: ServiceRouter | None = None
    splitter: ServiceSplitter | None = None
    resolver: ServiceResolver | None = None
    retry_budget: RetryBudget | None = None
    """The service's own, else that of `*`."""
    unreadable: tuple[str, ...] = ()
    """Kinds of its entries that nobody here understands: what they would decide is refused."""
    balance_dialled: bool = False
    """Whether requests to the address of one instance go to any of them, without that an entry says so."""

    @property
    def is_routed(self) -> bool:
        """Whether each request is given a way of its own, whatever instance's address was dialled."""
        return bool(self.router or self.splitter or self.resolver or self.unreadable or self.balance_dialled)
