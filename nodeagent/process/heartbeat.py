"""Whether the workers are alive: who is asked, who is believed, who is replaced."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nodeagent import limits
from nodeagent.observe.log import open_log
from nodeagent.process.worker_process import State, WorkerProcess
from nodeagent.process.workers import Fleet

_log = open_log()


class Pulse(NamedTuple):
    """One worker at one instant."""

    number: int
    state: State
    born_at: float
    answered_at: float
    """When it was asked what it answered last: since then it was not heard."""
    told_at: float
    """When it was given sockets, where it was."""
    killed_at: float = float("inf")
    is_informed: bool = True
    """Whether it has a snapshot and, beside it, keys, or has waited SVID_WAIT_S for these: READY, number 1."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the pulses mean."""

    is_beating: bool
    """Connections are being accepted by everyone who is supposed to. It is no beat where they `are_ignorant`."""
    hung: tuple[int, ...]
    """Numbers of workers to replace."""
    held: tuple[int, ...] = ()
    """Of those that were killed and do not end."""
    unheard_s: float = 0.0
    """For so long one of those that serve has not answered."""
    are_ignorant: bool = False
    """Those that serve refuse all, for none is informed, and nobody is there who would tell it policy or keys."""


def judge(pulses: Sequence[Pulse], now: float, resumed_at: float = float("-inf"), *, is_control_mute: bool = False) -> Verdict:
    """Alive is an agent with at least one serving worker, all of whose serving workers have answered within ANSWER_S.

    resumed_at: since when this process runs without a pause; before it nobody was asked, so nobody's patience was used up.

    A worker that starts or drains does not count: its share is with the others, or waits in its queue for moments. Nor
    does a spare, but one that hangs is of no use.
    """
    serving = [pulse for pulse in pulses if pulse.state == State.SERVING]
    unheard_s = max((now - pulse.answered_at for pulse in serving), default=0.0)
    held = tuple(pulse.number for pulse in pulses if now - max(pulse.killed_at, resumed_at) >= limits.KILLED_S)
    hung = tuple(pulse.number for pulse in pulses if _is_hung(pulse, now, resumed_at))
    are_ignorant = bool(serving) and is_control_mute and not any(pulse.is_informed for pulse in serving)
    return Verdict(bool(serving) and unheard_s <= limits.ANSWER_S, hung, held, unheard_s, are_ignorant)


def _is_hung(pulse: Pulse, now: float, resumed_at: float) -> bool:
    """One that starts is not asked yet; nobody waits for one that drains but who talks with it already."""
    silent_s = now - max(pulse.answered_at, resumed_at)
    match pulse.state:
        case State.STARTING:
            return now - max(pulse.born_at, resumed_at) > limits.START_S
        case State.OPENING:
            return silent_s > limits.HUNG_S or now - max(pulse.told_at, resumed_at) > limits.OPEN_S
        case State.STANDBY | State.SERVING:
            return silent_s > limits.HUNG_S
        case State.DRAINING:
            return silent_s > limits.DRAIN_HUNG_S
    return False


class Heartbeat:
    """Asks every worker each BEAT_S, and acts on the answers. Owned by the supervisor."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fleet: Fleet, on_beat: Callable[[float], None], on_alive: Callable[[], None],
        is_control_mute: Callable[[], bool] = lambda: False, age_s: float = 0.0,
    ) -> None:  # fmt: skip
        """`on_beat`: new connections will be served; for so long somebody who serves has not answered, or nobody serves yet.

        `on_alive`: this process does what it should, also in a drain. `age_s`: for so long it lives.

        A worker that hangs is replaced, even where SIGKILL does not end it, and no reason to end this process; one that serves nobody
        though it replaces them is. Until it has served once, there is a limit for starts.
        """
        self._loop = loop
        self._fleet = fleet
        self._on_beat = on_beat
        self._on_alive = on_alive
        self._is_control_mute = is_control_mute
        self._last_at = loop.time()
        self._resumed_at = float("-inf")
        self._served_at = float("-inf")
        self._held_at: float | None = self._last_at - age_s
        """Since when whoever comes waits for those who will serve: where they are not there at once, since this process began."""
        self._is_withheld = False
        self.is_draining = False

    async def run(self) -> None:
        """Beats until cancelled."""
        while True:
            await self.turn()
            await asyncio.sleep((limits.LATE_BEAT_S if self._is_late() else limits.BEAT_S) - limits.HEAR_S)

    async def turn(self) -> None:
        """One beat by what workers answer now: where this process was kept from its turn meanwhile, it asks once more."""
        asked_at = self._loop.time()
        await self._ask()
        if self._loop.time() - asked_at > limits.BEAT_S:
            await self._ask()
        self.tick()

    async def _ask(self) -> None:
        """Every worker, whether its loop turns; and hears."""
        for worker in self._fleet.living():
            worker.ping()
        await asyncio.sleep(limits.HEAR_S)

    def _is_late(self) -> bool:
        """Whether somebody who serves has not answered the last question, nor the one before."""
        serving = (worker for worker in self._fleet.living() if worker.state == State.SERVING)
        return any(self._loop.time() - worker.answered_at > 2 * limits.BEAT_S for worker in serving)

    def tick(self) -> None:
        """One beat by what was heard. After a pause of this very process (a stopped machine, a busy one) the workers' time begins anew."""
        now = self._loop.time()
        if now - self._last_at > 2 * limits.BEAT_S:
            self._resumed_at = now
        self._last_at = now
        self._act(now)
        if self.is_draining or now - self._served_at <= limits.UNSERVED_S:
            self._on_alive()

    def _act(self, now: float) -> None:
        workers = {worker.number: worker for worker in self._fleet.living()}
        pulses = [Pulse(w.number, w.state, w.born_at, w.answered_at, w.told_at, w.killed_at, w.is_informed) for w in workers.values()]
        verdict = judge(pulses, now, self._resumed_at, is_control_mute=self._is_control_mute())
        self._note_withheld(is_withheld=verdict.are_ignorant and not self._fleet.is_holding)
        for number in verdict.held:
            _give_up(workers.pop(number))
        for number in filter(workers.__contains__, verdict.hung):
            if math.isinf(workers[number].killed_at):
                _log.error("worker_hung", worker=number, pid=workers[number].pid, state=str(workers[number].state))
            workers[number].kill()
        self._held_at = (self._held_at or now) if self._fleet.is_holding else None
        if (self._held_at or (verdict.is_beating and not verdict.are_ignorant)) and not self.is_draining:
            self._on_beat(now - self._held_at if self._held_at else verdict.unheard_s)
        if verdict.is_beating:
            self._served_at = now

    def _note_withheld(self, *, is_withheld: bool) -> None:
        """Workers serve and rules are there, so nothing else tells why calls are refused, or let by."""
        if is_withheld and not self._is_withheld:
            _log.error("beat_withheld", why="no worker that serves has heard policy, and control tells none; `fail` decides of new connections")
        elif self._is_withheld and not is_withheld:
            _log.info("beat_resumed")
        self._is_withheld = is_withheld


def _give_up(worker: WorkerProcess) -> None:
    """It runs no line of ours any more, so others may have its place and its sockets."""
    _log.error("process_left", program="worker", worker=worker.number, pid=worker.pid, why="SIGKILL does not end it: the kernel holds it",
               effect="what it carried stands still until it ends; others serve what is new")  # fmt: skip
    worker.finish(None)
