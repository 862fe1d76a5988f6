"""How much one caller may have open at once towards a service: bounds that hold over all of its workers together.

Each worker has a share of a bound, and counts within it by itself. Who needs more asks; the one that leases takes from those who need less,
and gives nothing that another may still use. So a bound is never exceeded, whoever is slow to hear.
"""

from collections.abc import Sequence
from typing import NamedTuple

from nodeagent import limits
from nodeagent.model.policy.defaults import CallLimits, PassiveHealthCheck, Upstream, UpstreamConfig


class Bounds(NamedTuple):
    """What a caller may have at once towards one service."""

    connections: int = limits.BREAKER_CALLS
    pending: int = limits.BREAKER_CALLS
    """Requests that wait for a connection."""
    requests: int = limits.BREAKER_CALLS


def bounds_of(said: CallLimits | None) -> Bounds:
    """Of an entry; what it does not say is Envoy's."""
    if said is None:
        return Bounds()
    told = (said.max_connections, said.max_pending_requests, said.max_concurrent_requests)
    return Bounds(*(limits.BREAKER_CALLS if each is None else each for each in told))


class CallRules(NamedTuple):
    """What the caller's own entry says about its calls to one service."""

    limits: CallLimits | None = None
    health: PassiveHealthCheck | None = None
    connect_timeout_s: float = 0.0
    """0: not said."""


def call_rules(said: UpstreamConfig | None, service: str) -> CallRules:
    """Of the override for the service, and of the defaults for what it does not say."""
    if said is None:
        return CallRules()
    own = next((each for each in said.overrides if each.name == service and not each.peer), None) or Upstream()
    usual = said.defaults or Upstream()
    return CallRules(
        own.limits or usual.limits,
        own.passive_health_check or usual.passive_health_check,
        (own.connect_timeout_ms or usual.connect_timeout_ms) / 1000,
    )


def static_share(limit: int, workers: int) -> int:
    """Of each worker while nobody leases: any of them may be called, so one in any case, where there is one at all."""
    return max(limit // workers, min(limit, 1))


class Gauge:
    """A worker's part of one bound, and what it has of it. Owned by that worker."""

    __slots__ = ("asked", "idle", "limit", "refused", "serial", "share", "told", "used")

    def __init__(self, share: int, limit: int = 0) -> None:
        self.limit = limit
        """Of all workers together."""
        self.share = self.told = share
        self.used = 0
        self.idle = 0
        """Of what is used: what could be given up."""
        self.refused = 0
        """Since the last lease."""
        self.serial = 0
        """Of the last lease."""
        self.asked = 0
        """What was wanted when that was told last."""

    def try_take(self) -> bool:
        """One more, if the share has it."""
        if self.used >= self.share:
            self.refused += 1
            return False
        self.used += 1
        return True

    def give_back(self) -> bool:
        """One less; whether that is to be told: others wait for what was kept beyond the share, or nothing is wanted any more."""
        self.used -= 1
        if not self.used:
            self.refused = 0
        if self.share <= self.told:
            return self.asked > 0 and not self.used
        self.share = max(self.told, self.used)
        return True

    def tell(self) -> tuple[int, int]:
        """What is held and what is wanted, as it is told now."""
        self.asked = self.wanted
        return self.held, self.asked

    def take_share(self, share: int) -> int:
        """Another share is told; what is kept of the old one: what is in use is not taken away. That is to be told back."""
        self.told, self.share, self.refused = share, max(share, self.used), 0
        return self.share

    def begin_anew(self, limit: int, share: int) -> None:
        """Of another bound. What is in use stays, and counts."""
        self.limit, self.share, self.told, self.refused = limit, share, share, 0

    @property
    def held(self) -> int:
        """What nobody else may use."""
        return max(self.share, self.used)

    @property
    def wanted(self) -> int:
        """The share that would do: with room to grow, and for those that were refused."""
        busy = self.used - self.idle
        asked = busy + self.refused
        return asked + max(1, busy // 4) if asked else 0

    @property
    def is_short(self) -> bool:
        """Whether more is to be asked for, before it is needed."""
        return self.wanted > self.share and self.share < self.limit


class Use(NamedTuple):
    """A worker's part, as the one that leases knows it."""

    held: int
    """The largest share that it may believe to have: what it told last, or what it was told since."""
    wanted: int


def first_shares(limit: int, workers: int) -> tuple[int, ...]:
    """Before anything is known: as even as can be."""
    even, more = divmod(limit, workers)
    return tuple(even + (number < more) for number in range(workers))


def lease(limit: int, uses: Sequence[Use]) -> tuple[int, ...]:
    """The shares to tell: by what is wanted, and never more together than the limit, with what anyone may still believe to have.

    Who is told less keeps counting as holding what it held, until it tells what it kept.
    """
    fair = _fair(limit, [use.wanted for use in uses])
    free = limit - sum(use.held for use in uses)
    told = []
    for use, share in zip(uses, fair, strict=True):
        more = min(max(share - use.held, 0), max(free, 0))
        free -= more
        told.append(use.held + more if share >= use.held else share)
    return tuple(told)


def _fair(limit: int, wanted: Sequence[int]) -> list[int]:
    """Who wants little gets it; the others get as much as each other. What nobody wants is shared out, too."""
    shares = [0] * len(wanted)
    left, order = limit, sorted(range(len(wanted)), key=lambda number: wanted[number])
    for place, number in enumerate(order):
        shares[number] = min(wanted[number], left // (len(order) - place))
        left -= shares[number]
    for number, more in zip(order, first_shares(left, len(order)) if order else (), strict=True):
        shares[number] += more
    return shares
