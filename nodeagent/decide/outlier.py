"""Instances that fail, as a caller sees it: left alone for a while, a longer one each time, and not too many at once."""

from dataclasses import dataclass
from typing import NamedTuple

from nodeagent import limits
from nodeagent.model.policy.defaults import PassiveHealthCheck


class EjectRules(NamedTuple):
    """When an instance is ejected, and for how long."""

    failures: int = limits.EJECT_FAILURES
    """In a row; 0: never."""
    percent: int = limits.EJECT_PERCENT
    """Of the instances, at once. One of several may always be."""
    base_s: float = limits.EJECT_S
    interval_s: float = limits.EJECT_INTERVAL_S
    enforced: float = 1.0
    """Of the instances that are due, by chance."""


def eject_rules(said: PassiveHealthCheck | None) -> EjectRules:
    """Of an entry; what it does not say is Envoy's."""
    if said is None:
        return EjectRules()
    return EjectRules(
        failures=said.max_failures or limits.EJECT_FAILURES,
        percent=limits.EJECT_PERCENT if said.max_ejection_percent is None else said.max_ejection_percent,
        base_s=said.base_ejection_time.seconds if said.base_ejection_time else limits.EJECT_S,
        interval_s=said.interval.seconds or limits.EJECT_INTERVAL_S,
        enforced=1.0 if said.enforcing_consecutive_5xx is None else said.enforcing_consecutive_5xx / 100,
    )


class Ejection(NamedTuple):
    """An instance that is left alone."""

    instance: str
    until: float
    times: int
    """How often it was ejected of late."""


@dataclass(slots=True)
class _State:
    """Of one instance. Owned by Outliers."""

    failures: int = 0
    until: float = 0.0
    times: int = 0
    forgiven_at: float = 0.0


class Outliers:
    """The instances of one service as one worker sees them. `now` is of a clock that never goes back."""

    def __init__(self, rules: EjectRules) -> None:
        self.rules = rules
        self._states: dict[str, _State] = {}

    def succeeded(self, instance: str) -> None:
        """It answered, and not with a failure of its own."""
        state = self._states.get(instance)
        if state is not None:
            state.failures = 0

    def failed(self, instance: str, now: float, *, among: int, draw: float) -> Ejection | None:
        """It gave no answer, or one of 500 and more; the ejection, where that was once too often.

        among: how many instances there are. draw: by chance, in [0, 1).
        """
        state = self._states.setdefault(instance, _State())
        if state.until > now:
            return None  # what was under way when it was ejected
        state.failures += 1
        if not self.rules.failures or state.failures < self.rules.failures:
            return None
        if draw >= self.rules.enforced or not self._has_room(among, now):
            return None
        return self._eject(instance, state, now)

    def take(self, ejection: Ejection, now: float, *, among: int) -> None:
        """What another worker saw. Two that see different instances fail eject no more than one that sees both."""
        state = self._states.setdefault(ejection.instance, _State())
        if state.until <= now and not self._has_room(among, now):
            return
        state.until, state.times = max(state.until, ejection.until), max(state.times, ejection.times)
        state.failures, state.forgiven_at = 0, state.until

    def is_ejected(self, instance: str, now: float) -> bool:
        """Whether it is left alone."""
        state = self._states.get(instance)
        return state is not None and state.until > now

    def ejected(self, now: float) -> list[Ejection]:
        """All that are left alone."""
        return [Ejection(name, state.until, state.times) for name, state in self._states.items() if state.until > now]

    def next_return(self, now: float) -> float | None:
        """When the next one comes back."""
        return min((each.until for each in self.ejected(now)), default=None)

    def keep(self, instances: frozenset[str]) -> None:
        """All others are forgotten: they are not of the service any more."""
        self._states = {name: state for name, state in self._states.items() if name in instances}

    def _has_room(self, among: int, now: float) -> bool:
        """Whether one more may be left alone; never the last."""
        most = min(max(1, among * self.rules.percent // 100), among - 1) if self.rules.percent else 0
        return len(self.ejected(now)) < most

    def _eject(self, instance: str, state: _State, now: float) -> Ejection:
        quiet = int(max(now - state.forgiven_at, 0.0) / self.rules.interval_s)
        state.times = max(state.times - quiet, 0) + 1
        longest = max(limits.EJECT_MAX_S, self.rules.base_s)
        state.until = state.forgiven_at = now + min(self.rules.base_s * state.times, longest)
        state.failures = 0
        return Ejection(instance, state.until, state.times)
