"""Who may call whom: Consul's service intentions, by connection or by request, and their precedence."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from nodeagent.model.action import Action
from nodeagent.model.policy.intentions import Permission

ANY = "*"
Word = Literal["allow", "deny", "by request"]
"""What a row says, all in all."""


def word_of(action: Action, permissions: Iterable[Permission]) -> Word:
    """Whether a row with these allows, denies, or does the one for some requests and the other for the rest."""
    return "by request" if any(permission.action == "allow" for permission in permissions) else action


class Intention(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One row: `source` may or may not reach `destination`; either may be `*`."""

    source: str
    destination: str
    action: Action
    permissions: tuple[Permission, ...] = ()
    """What is done with which requests; the action, a deny then, is for those that none matches, and for connections that carry no HTTP."""

    @property
    def precedence(self) -> int:
        """Consul's rank, higher decides: 9 exact-exact, 8 any source, 6 any destination, 5 any-any.

        Source: Consul, service intentions, precedence and match order (community edition).
        """
        if self.destination != ANY:
            return 9 if self.source != ANY else 8
        return 6 if self.source != ANY else 5

    @property
    def is_by_request(self) -> bool:
        """Whether it allows some requests and denies others; one that allows none is a plain deny."""
        return self.word == "by request"

    @property
    def word(self) -> Word:
        """What it says, all in all."""
        return word_of(self.action, self.permissions)

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination} ({self.word})"
