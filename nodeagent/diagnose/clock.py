"""Judgements on time: certificates are valid by the clock."""

from collections.abc import Iterator

from nodeagent import limits
from nodeagent.diagnose.facts import Clock, TimeService
from nodeagent.diagnose.finding import Verdict, fail, warn, well

_CURE = "timedatectl set-ntp true; chronyc makestep"
_NOTABLE_S = 5.0  # a clock that is kept is within a tenth of a second


def judge_clock(clock: Clock) -> Iterator[Verdict]:
    """Ours against the catalog's, which signs."""
    off_s = max(abs(clock.ahead_s) - clock.within_s, 0.0)
    text = f"the clock is {abs(clock.ahead_s):.1f} s {'ahead of' if clock.ahead_s > 0 else 'behind'} the catalog's"
    if off_s > limits.CLOCK_SKEW_S:
        yield fail(f"{text}; certificates bear {limits.CLOCK_SKEW_S:g} s", _CURE)
    elif off_s > _NOTABLE_S:
        yield warn(text, _CURE)
    else:
        yield well("the clock agrees with the catalog's")


def judge_time_service(service: TimeService) -> Iterator[Verdict]:
    """Somebody keeps the clock."""
    if service.is_synchronized:
        yield well("the clock is kept by a time service")
    else:
        yield warn("nobody keeps the clock of this host", "timedatectl set-ntp true, or install chrony")
