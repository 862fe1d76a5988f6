"""Who is alive, who is hung."""

import asyncio
from dataclasses import dataclass, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.process.heartbeat import Heartbeat, Pulse, Verdict, judge
from nodeagent.process.worker_process import State, WorkerCalls, WorkerProcess
from nodeagent.wire import requests
from tests.support.loop import run, until
from tests.support.worker_end import WorkerEnd

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


def killed(at: float) -> Pulse:
    """A worker that hung, was killed then, and lives."""
    return Pulse(1, State.SERVING, NOW - 100, HUNG, NOW - 90, at)


@pytest.mark.parametrize(
    ("pulses", "verdict"),
    [
        ([], Verdict(is_beating=False, hung=())),
        ([pulse(0, State.STARTING, FRESH)], Verdict(is_beating=False, hung=())),
        ([pulse(0, State.SERVING, FRESH)], Verdict(is_beating=True, hung=())),
        ([pulse(0, State.SERVING, FRESH), pulse(1, State.STARTING, FRESH)], Verdict(is_beating=True, hung=())),
        ([pulse(0, State.SERVING, FRESH), pulse(1, State.DRAINING, HUNG)], Verdict(is_beating=True, hung=())),
        ([pulse(0, State.SERVING, FRESH), pulse(1, State.DRAINING, NOW - limits.DRAIN_HUNG_S - 0.1)], Verdict(is_beating=True, hung=(1,))),
        ([pulse(0, State.SERVING, FRESH), pulse(1, State.SERVING, LATE)], Verdict(is_beating=False, hung=())),
        ([pulse(0, State.SERVING, FRESH), pulse(1, State.SERVING, HUNG)], Verdict(is_beating=False, hung=(1,))),
        (
            [pulse(0, State.SERVING, FRESH), pulse(1, State.STARTING, FRESH, NOW - limits.START_S - 1)],
            Verdict(is_beating=True, hung=(1,)),
        ),
        ([pulse(0, State.SERVING, FRESH), killed(NOW - limits.KILLED_S + 0.1)], Verdict(is_beating=False, hung=(1,))),
        ([pulse(0, State.SERVING, FRESH), killed(NOW - limits.KILLED_S)], Verdict(is_beating=False, hung=(1,), held=(1,))),
        ([told(NOW - limits.OPEN_S + 0.1)], Verdict(is_beating=False, hung=())),
        ([told(NOW - limits.OPEN_S - 0.1)], Verdict(is_beating=False, hung=(1,))),
    ],
)
def test_an_agent_is_alive_when_all_that_serve_answer(pulses: list[Pulse], verdict: Verdict) -> None:
    """One that does not holds a share of the connections: the beat stops, later it is replaced."""
    unheard_s = max((NOW - pulse.answered_at for pulse in pulses if pulse.state == State.SERVING), default=0.0)
    assert judge(pulses, NOW) == replace(verdict, unheard_s=unheard_s)


@pytest.mark.parametrize(
    ("informed", "is_mute", "are_ignorant"),
    [((True, True), True, False), ((True, False), True, False), ((False, False), True, True), ((False, False), False, False)],
)
def test_who_serves_without_policy_while_control_is_mute_is_ignorant(informed: tuple[bool, ...], *, is_mute: bool, are_ignorant: bool) -> None:
    """All of them, or the others serve. A control that lives tells it soon, or has said that there is none. A spare's knowledge helps nobody."""
    pulses = [pulse(number, State.SERVING, FRESH)._replace(is_informed=knows) for number, knows in enumerate(informed)]
    verdict = judge([*pulses, pulse(9, State.STANDBY, FRESH)], NOW, is_control_mute=is_mute)
    assert (verdict.is_beating, verdict.are_ignorant) == (True, are_ignorant)


def test_workers_that_would_refuse_all_are_no_beat_and_feed_the_watchdog() -> None:
    """The fail mode acts; to end this process would bring nobody policy. The first that has heard it makes a beat."""
    clock, worker, beats, fed = _Clock(), _Worker(NOW, is_informed=False), [], []
    fleet = SimpleNamespace(living=lambda: [worker], is_holding=False)
    heart = Heartbeat(cast("Any", clock), cast("Any", fleet), lambda _: beats.append(clock.now), lambda: fed.append(clock.now), lambda: True)
    with capture_logs() as logs:
        for clock.now in (NOW + 1.0, NOW + 2.0):
            heart.tick()
        worker.is_informed = True
        clock.now = NOW + 3.0
        heart.tick()
    assert [line["event"] for line in logs] == ["beat_withheld", "beat_resumed"], "each once: nothing else tells why calls are refused"
    assert (beats, fed) == ([NOW + 3.0], [NOW + 1.0, NOW + 2.0, NOW + 3.0])


@pytest.mark.parametrize("state", [State.STARTING, State.STANDBY, State.DRAINING])
def test_where_nobody_serves_no_beat_is_withheld(state: State) -> None:
    """At a first start control is mute, too, and in a drain; neither is an error."""
    worker, beats = _Worker(NOW, state=state, is_informed=False), []
    fleet = SimpleNamespace(living=lambda: [worker], is_holding=False)
    heart = Heartbeat(cast("Any", _Clock()), cast("Any", fleet), beats.append, lambda: None, lambda: True)
    with capture_logs() as logs:
        heart.tick()
    assert (beats, logs) == ([], [])


def test_the_beat_stops_before_the_kernels_switch_would_and_replacement_comes_after() -> None:
    """The numbers fit together."""
    latest = limits.HUNG_S + limits.KILLED_S + 2 * limits.BEAT_S  # when one is given up that the kernel holds
    assert latest < limits.ANSWER_S + limits.ALIVE_S, "the last beat was before ANSWER_S"
    assert limits.HEAR_S < limits.LATE_BEAT_S < limits.BEAT_S
    assert limits.BEAT_S < limits.ANSWER_S < limits.HUNG_S < limits.ALIVE_S < limits.START_S < limits.UNSERVED_S < limits.AWAY_S


class _Clock:
    """What a heartbeat reads of its loop."""

    now = NOW

    def time(self) -> float:
        return self.now


@dataclass
class _Worker:
    """What a heartbeat knows of one that serves."""

    answered_at: float
    number: int = 0
    pid: int = 0
    state: State = State.SERVING
    born_at: float = NOW
    told_at: float = NOW
    killed_at: float = float("inf")
    is_informed: bool = True
    kills: int = 0

    def kill(self) -> None:
        self.kills += 1

    def ping(self) -> None:
        """It never answers."""


def test_a_beat_says_for_how_long_somebody_who_serves_was_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that hang are no reason yet to let the switch fall, but callers wait already. Who answers is heard at once, and one that is late is asked more often."""
    monkeypatch.setattr(limits, "BEAT_S", 0.5)
    monkeypatch.setattr(limits, "HEAR_S", 0.05)
    monkeypatch.setattr(limits, "LATE_BEAT_S", 0.1)
    told, asked = [], []

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        well, ill = (_Worker(loop.time(), number) for number in range(2))

        def answer() -> None:
            well.answered_at = loop.time()
            if len(told) < 2:
                ill.answered_at = loop.time()
            asked.append(loop.time())

        well.ping = answer  # type: ignore[method-assign]
        spare = _Worker(loop.time() - 1, 2, state=State.STANDBY)
        fleet = SimpleNamespace(living=lambda: [well, ill, spare], is_holding=False)
        beating = asyncio.create_task(Heartbeat(loop, cast("Any", fleet), told.append, lambda: None).run())
        await until(lambda: len(told) > 6, "some beats")
        beating.cancel()

    run(scene)
    assert max(told[:2]) < limits.BEAT_S
    assert told[2:] == sorted(told[2:])
    assert told[2] > limits.BEAT_S
    assert min(later - earlier for earlier, later in pairwise(asked)) < limits.BEAT_S


def test_where_nobody_serves_yet_a_beat_says_since_when_whoever_comes_waits() -> None:
    """From when this process began, or each time that begins anew: to say nothing of it would keep the sentry quiet for ever."""
    clock, worker, beats = _Clock(), _Worker(NOW, state=State.STANDBY), []
    fleet = SimpleNamespace(living=lambda: [worker], is_holding=True)
    heart = Heartbeat(cast("Any", clock), cast("Any", fleet), beats.append, lambda: None, age_s=1.5)
    for clock.now, fleet.is_holding in ((NOW, True), (NOW + 1.0, True), (NOW + 9.0, True), (NOW + 10.0, False), (NOW + 11.0, True)):
        heart.tick()
    assert beats == [1.5, 2.5, 10.5, 0.0]


@pytest.mark.parametrize("is_draining", [False, True])
def test_the_watchdog_is_fed_as_long_as_workers_serve_or_may_yet_be_replaced(*, is_draining: bool) -> None:
    """Beats stop with the answers; this process is given up only when replacing workers has not helped, and never in a drain."""
    clock, worker, beats, fed = _Clock(), _Worker(NOW), [], []
    fleet = SimpleNamespace(living=lambda: [worker], is_holding=False)
    heart = Heartbeat(cast("Any", clock), cast("Any", fleet), lambda _: beats.append(clock.now), lambda: fed.append(clock.now))
    heart.is_draining = is_draining
    for second in range(1, 60):
        clock.now = NOW + second
        heart.tick()
    assert beats == ([] if is_draining else [NOW + second for second in range(1, int(limits.ANSWER_S) + 1)])
    assert worker.kills
    assert fed == [NOW + second for second in range(1, 60 if is_draining else int(limits.ANSWER_S + limits.UNSERVED_S) + 1)]


def test_after_a_pause_of_the_machine_a_worker_has_as_long_to_answer_as_ever() -> None:
    """It could not before; the first tick after the pause is a sign of life for the watchdog."""
    clock, worker, fed = _Clock(), _Worker(NOW), []
    fleet = SimpleNamespace(living=lambda: [worker], is_holding=False)
    heart = Heartbeat(cast("Any", clock), cast("Any", fleet), lambda _: None, lambda: fed.append(clock.now))
    for clock.now in (NOW + 1.0, NOW + 10.0, *(NOW + 10.0 + second for second in range(1, int(limits.HUNG_S) + 1))):
        heart.tick()
        assert worker.kills == 0
    assert fed[:2] == [NOW + 1.0, NOW + 10.0]
    clock.now += 1
    heart.tick()
    assert worker.kills == 1


def test_a_supervisor_that_was_kept_from_its_turn_beats_at_once_where_all_have_answered() -> None:
    """Another second, and the kernel's switch would refuse calls that would be served."""
    clock, worker, beats = _Clock(), _Worker(NOW), []
    fleet = SimpleNamespace(living=lambda: [worker], is_holding=False)
    heart = Heartbeat(cast("Any", clock), cast("Any", fleet), lambda _: beats.append(clock.now), lambda: None)
    for clock.now in (NOW + 1.0, NOW + 1.0 + limits.ALIVE_S - 0.5):
        worker.answered_at = clock.now
        heart.tick()
    assert beats == [NOW + 1.0, NOW + limits.ALIVE_S + 0.5]


class _Far(WorkerEnd):
    """A worker that serves, and its end of the channel. Owned by one test."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        calls = WorkerCalls(lambda *_: None, lambda _: None, lambda _: None, lambda *_: None)
        self.worker = WorkerProcess(loop, 0, 1, calls)
        assert self.worker.ends
        self.sock = self.worker.ends.supervisor
        self.sock.setblocking(False)
        self.worker.state = State.SERVING

    def answer(self) -> None:
        """The question that came."""
        heard = self.hear()
        assert heard
        self.say(requests.encode_beat(requests.PONG, requests.decode_beat(heard[0])))


@pytest.mark.parametrize("kept_s", [0.0, limits.ANSWER_S + 0.5, 60.0])
@pytest.mark.parametrize("lives_on", [True, False])
def test_what_a_worker_said_before_its_supervisor_was_kept_from_its_turn_is_no_answer(kept_s: float, *, lives_on: bool) -> None:
    """It may hang since. It is asked once more, so one that lives has its beat at once."""
    beats: list[float] = []

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        far, clock = _Far(loop), loop.time
        fleet = SimpleNamespace(living=lambda: [far.worker], is_holding=False)
        heart = Heartbeat(loop, cast("Any", fleet), beats.append, lambda: None)

        def answer_first() -> None:
            far.answer()
            loop.time = lambda: clock() + kept_s  # type: ignore[method-assign]
            if lives_on:
                loop.add_reader(far.sock, far.answer)
            else:
                loop.remove_reader(far.sock)

        loop.add_reader(far.sock, answer_first)
        await heart.turn()
        loop.remove_reader(far.sock)
        far.worker.finish(None)

    run(scene)
    assert len(beats) == (lives_on or not kept_s)
    assert all(unheard_s < limits.BEAT_S for unheard_s in beats)


def test_until_somebody_has_served_the_limit_for_starts_holds() -> None:
    """Fed, the watchdog would be armed, and end a slow first start before its time."""
    clock, fed = _Clock(), []
    fleet = SimpleNamespace(living=lambda: [_Worker(NOW, state=State.STARTING)], is_holding=False)
    heart = Heartbeat(cast("Any", clock), cast("Any", fleet), lambda _: None, lambda: fed.append(clock.now))
    for second in range(1, 10):
        clock.now = NOW + second
        heart.tick()
    assert fed == []
