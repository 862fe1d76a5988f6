"""Who may call whom: Consul's service intentions, L4, and their precedence."""

from typing import Literal

import msgspec

Action = Literal["allow", "deny"]
ANY = "*"


class Intention(msgspec.Struct, frozen=True, gc=False):
    """One row: `source` may or may not reach `destination`; either may be `*`."""

    source: str
    destination: str
    action: Action

    @property
    def precedence(self) -> int:
        """Consul's rank, higher decides: 9 exact-exact, 8 any source, 6 any destination, 5 any-any.

        Source: Consul, service intentions, precedence and match order (community edition).
        """
        if self.destination != ANY:
            return 9 if self.source != ANY else 8
        return 6 if self.source != ANY else 5

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination} ({self.action})"
