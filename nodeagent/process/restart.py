"""When a process that ended is started again: a pure policy."""

from collections.abc import Sequence

from nodeagent import limits


def start_at(exits: Sequence[float], now: float) -> float:
    """The instant of the next start, for a process whose earlier exits are `exits`, oldest first.

    The first exit after a quiet time costs nothing: the next start is now. A process that keeps ending waits
    RESTART_MIN_S, then twice that, up to RESTART_MAX_S; RESTART_RESET_S without an exit forgets the past.
    """
    count = _exits_in_a_row(exits)
    if count <= 1:
        return now
    delay_s = min(limits.RESTART_MIN_S * 2.0 ** min(count - 2, 32), limits.RESTART_MAX_S)
    return max(now, exits[-1] + delay_s)


def remember_exit(exits: Sequence[float], now: float) -> tuple[float, ...]:
    """`exits` with one more; only those that can still matter are kept."""
    known = (*exits, now)
    return known[-_exits_in_a_row(known) :][-limits.RESTARTS_REMEMBERED :]


def _exits_in_a_row(exits: Sequence[float]) -> int:
    """How many of the last exits followed each other within RESTART_RESET_S."""
    count = min(len(exits), 1)
    for later, earlier in zip(reversed(exits), reversed(exits[:-1]), strict=False):
        if later - earlier >= limits.RESTART_RESET_S:
            break
        count += 1
    return count
