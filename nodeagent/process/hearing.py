"""Whether control reads what it is told, turn by turn: one that reads nothing hangs, or is busy."""

from collections.abc import Callable

from nodeagent import limits
from nodeagent.observe.log import open_log

_log = open_log()


class Hearing:
    """That of one control after another. Owned by its ControlProcess.

    Turns are counted, not seconds: after a stop of the whole machine nobody is judged. Each that is given up doubles what the next one
    gets, as the host may be too slow; each turn in which all was read takes one back.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.stalls = 0
        """How often one that had spoken has read nothing for CONTROL_MUTE_TURNS."""
        self.stalled_at = 0.0
        """By `now`: when that was noticed last."""
        self._now = now
        self._is_stalled = False
        self._deaf_turns = 0
        self._patience = limits.CONTROL_DEAF_TURNS

    @property
    def is_deaf(self) -> bool:
        """Whether nobody is to wait for it. Busy for long is as good as hung."""
        return self._deaf_turns >= limits.CONTROL_MUTE_TURNS

    @property
    def is_lost(self) -> bool:
        """Whether it is to be replaced."""
        return self._deaf_turns > self._patience

    def note(self, pid: int, *, has_read: bool, has_spoken: bool) -> None:
        """One turn: whether it has read all before it; one that has not spoken yet may still be starting."""
        if has_read:
            self._deaf_turns, self._patience = 0, max(self._patience - 1, limits.CONTROL_DEAF_TURNS)
        else:
            self._deaf_turns += 1
        is_stalled = has_spoken and self.is_deaf
        if is_stalled and not self._is_stalled:
            self.stalls, self.stalled_at = self.stalls + 1, self._now()
            _log.warning("control_stalled", pid=pid, why="it reads nothing: it hangs, or is busy",
                         effect="until it goes on, or is replaced, nobody hears of changes, and `nodeagent status` gets no answer")  # fmt: skip
        elif self._is_stalled and not is_stalled:
            _log.info("control_resumed", pid=pid, after_s=round(self._now() - self.stalled_at, 1))
        self._is_stalled = is_stalled

    def begin(self) -> None:
        """With another one, which has been told nothing."""
        self._is_stalled, self._deaf_turns = False, 0

    def give_up(self) -> None:
        """The next one gets more time."""
        self._patience = min(2 * self._patience, limits.CONTROL_DEAF_TURNS_MAX)
