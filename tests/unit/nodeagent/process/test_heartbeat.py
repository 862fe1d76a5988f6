"""Who is alive, who is hung."""

import pytest

from nodeagent import limits
from nodeagent.process.heartbeat import Pulse, Verdict, judge
from nodeagent.process.worker_process import State

NOW = 1000.0
FRESH = NOW - 1.0
LATE = NOW - limits.ANSWER_S - 0.1
HUNG = NOW - limits.HUNG_S - 0.1


def pulse(number: int, state: State, answered_at: float, born_at: float = NOW - 1) -> Pulse:
    """A worker."""
    return Pulse(number, state, born_at, answered_at, NOW - 1)


def told(at: float) -> Pulse:
    """A worker that was given sockets then, and answers."""
    return Pulse(1, State.OPENING, NOW - 100, FRESH, at)


@pytest.mark.parametrize(
    ("pulses", "verdict"),
    [
        ([], Verdict(is_beating=False, hung=())),
        ([pulse(0, State.STARTING, FRESH)], Verdict(is_beating=False, hung=())),
        ([pulse(0, State.SERVING, FRESH)], Verdict(is_beating=True, hung=())),
        ([pulse(0, State.SERVING, FRESH), pulse(1, State.STARTING, FRESH)], Verdict(is_beating=True, hung=())),
        ([pulse(0, State.SERVING, FRESH), pulse(1, State.DRAINING, HUNG)], Verdict(is_beating=True, hung=())),
        ([pulse(0, State.SERVING, FRESH), pulse(1, State.SERVING, LATE)], Verdict(is_beating=False, hung=())),
        ([pulse(0, State.SERVING, FRESH), pulse(1, State.SERVING, HUNG)], Verdict(is_beating=False, hung=(1,))),
        (
            [pulse(0, State.SERVING, FRESH), pulse(1, State.STARTING, FRESH, NOW - limits.START_S - 1)],
            Verdict(is_beating=True, hung=(1,)),
        ),
        ([told(NOW - limits.OPEN_S + 0.1)], Verdict(is_beating=False, hung=())),
        ([told(NOW - limits.OPEN_S - 0.1)], Verdict(is_beating=False, hung=(1,))),
    ],
)
def test_an_agent_is_alive_when_all_that_serve_answer(pulses: list[Pulse], verdict: Verdict) -> None:
    """One that does not holds a share of the connections: the beat stops, later it is replaced."""
    assert judge(pulses, NOW) == verdict


def test_the_beat_stops_before_the_kernels_switch_would_and_replacement_comes_after() -> None:
    """The numbers fit together."""
    assert limits.BEAT_S < limits.ANSWER_S < limits.HUNG_S < limits.ALIVE_S < limits.START_S
