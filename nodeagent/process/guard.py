"""Interception while the agent runs: what the kernel's sets hold, the beat, and repair when somebody changed the rules."""

import asyncio
import errno
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Literal

from nodeagent import limits
from nodeagent.observe.log import open_log
from nodeagent.process.capture import Capture, follow_capture
from nodeagent.process.units import StampedUnit
from redirect import kernel
from redirect.backend import AnyElements, installed_backends, open_elements
from redirect.errors import RedirectError
from redirect.settings import Settings

_log = open_log()
_OFF = "intercept.enabled is false"
_SHOWN = 5  # differences or refused values in one log line

Condition = Literal["active", "off", "failed", "repaired"]


class Guard:
    """The rules of this host as the agent needs them. Owned by the supervisor.

    The calls into the kernel take some milliseconds each and are made from the supervisor's loop, which waits for them; but
    rules of iptables take seconds on a busy host: they are compared and repaired in a thread, and beats go on meanwhile.
    """

    def __init__(
        self, settings: Settings | None, stays_closed: Callable[[str], bool] = lambda _: False,
        on_beat: Callable[[float | None], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """`settings`: None where interception is switched off; then nothing here touches the kernel, but `remove`.

        stays_closed: whether a unit may never bypass a dead agent. on_beat: told of each beat for how long it would hold, had it been
        when those who serve were last heard; None: none is to hold any more.
        """
        self._rules: Condition = "off"
        self._why = _OFF
        self._is_left = False
        """Whether something of before is still there, though interception is off."""
        self.repairs = 0
        self.bypassed = 0
        """Connections that went around the agent while nobody beat."""
        self._settings = settings
        self._stays_closed = stays_closed
        self._on_beat = on_beat
        self._elements = open_elements(settings) if settings else None
        self._capture = Capture()
        self._written = self._capture
        """What the kernel took last. Before anybody said what to capture, what an earlier agent left in the sets stays."""
        self._checks = 0
        self._is_slow = settings is not None and settings.backend == "iptables"
        self._under_way = ""
        """What is done in the thread; meanwhile the loop touches beats alone (units are no elements of iptables)."""
        self._is_repairing = self._is_late = False
        self._repair_at = float("-inf")
        """Of the monotonic clock: none before. Each may wait for somebody else's lock, and two in a row would cost a beat its time."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._may_check = asyncio.Event()
        self._may_check.set()
        """Cleared while this process is about to go."""
        self.asked = asyncio.Event()
        """Set when a check is wanted before its time."""

    @property
    def condition(self) -> Condition:
        """What `status` shows: `failed` also while not everything that should be is captured, or a repair takes long."""
        if self._is_late and self._is_repairing:
            return "failed"
        return "failed" if self._capture.overflow and self._rules != "off" else self._rules

    @property
    def detail(self) -> str:
        """Why it is so."""
        if self._is_late:
            return self._under_way
        if not self._capture.overflow or self._rules in ("off", "failed"):
            return self._why
        return f"not everything is captured: {self._capture.overflow}"

    @property
    def captured(self) -> Capture:
        """What is captured now."""
        return self._capture

    @property
    def is_standing(self) -> bool:
        """Whether the rules are as they should be, or none are wanted."""
        return self._rules != "failed"

    def install(self, agent_cgroup: str) -> None:
        """Puts the rules there if they are missing or different, and exempts our own cgroup.

        What an earlier agent left stays captured, but no exceptions: they were told under a configuration of then.

        Raises:
            RedirectError: the kernel refused; the message says what, and the cure.
        """
        if self._settings is None or self._elements is None:
            return
        for change in kernel.apply(self._settings).changes:
            _log.info("interception_changed", change=change)
        missing = self._elements.set_agents([agent_cgroup])
        if missing:
            raise RedirectError(f"the agent's own cgroup {missing[0]!r} cannot be named in a rule; start it in another")
        self._elements.untell()
        self._count_bypassed(self._elements)  # at once: what was while nobody lived; and iptables counts only from then on
        self._rules, self._why = "active", ""

    def remove(self) -> None:
        """Takes away what was installed before interception was switched off: nobody beats for it, so it would refuse all.

        What open connections need stays for `clear`; and workers of before may still accept such.
        """
        self._remove(is_agent_idle=False)

    async def clear(self) -> None:
        """Takes what `remove` has left or could not take, as far as nothing needs it any more. To be called once no worker of before accepts."""
        await self._may_check.wait()
        if not self._is_left:
            return
        self._idle.clear()
        try:
            await run_aside(lambda: self._remove(is_agent_idle=True))
        finally:
            self._idle.set()

    def _remove(self, *, is_agent_idle: bool) -> None:
        """Nothing is logged twice."""
        why = _OFF
        try:
            report = kernel.remove(is_agent_idle=is_agent_idle) if installed_backends() else kernel.Report()
        except RedirectError as error:
            report, why = kernel.Report(left=(str(error),)), f"{_OFF}, but rules of before cannot be removed: {error}"
        for change in report.changes:
            _log.info("interception_changed", change=change)
        if why not in (_OFF, self._why):
            _log.error("interception_not_removed", error=report.left[0], effect="where there are any, new connections meet them and no agent",
                       cure="it is tried again; where that does not help: nodeagent intercept remove --now --force")  # fmt: skip
        elif report.left and not self._is_left:
            _log.info("interception_left", what="the rules that open connections need", until="the last of them has ended")
        self._why, self._is_left = why, bool(report.left)

    def capture(self, capture: Capture) -> None:
        """From now on this is captured."""
        if capture.refused:
            _log.warning("capture_refused", values=capture.refused[:_SHOWN], number=len(capture.refused))
        if capture.overflow:
            _log.error("capture_overflow", beyond=capture.overflow, effect="connections to them may pass in clear")
        self._capture = follow_capture(self._capture, capture)
        if not self._under_way:  # else it is written afterwards
            self._try("capture", self._write_capture)

    def load_units(self, root: str, units: Iterable[StampedUnit]) -> bool:
        """Whether the kernel's map now holds these units, whose paths are below the cgroup `root`."""
        if self._elements is None:
            return True
        units = tuple(units)
        marks = {f"{root}/{unit.path}".lstrip("/"): unit.mark for unit in units}
        may_bypass = frozenset(unit.mark for unit in units if not self._stays_closed(unit.unit))
        return self._try("units", lambda elements: self._set_units(elements, marks, may_bypass))

    def beat(self, lives_s: int = limits.ALIVE_S, unheard_s: float = 0.0) -> None:
        """New connections are captured for the next seconds. For `unheard_s` somebody who serves has not answered."""
        self._on_beat(lives_s - unheard_s)
        self._try("beat", lambda elements: elements.beat(lives_s))

    def stop_beat(self) -> None:
        """New connections are refused or let by from now on, as configured."""
        self._on_beat(None)
        self._try("stop_beat", lambda elements: elements.stop_beat())

    async def check(self) -> None:
        """Compares the rules with the plan, and the sets with what they should hold, and repairs them.

        An address or port that is missing from a set is traffic in clear. Cgroups are not compared but written anew: nft
        takes seconds to list hundreds of units, and callers wait meanwhile.
        """
        if self._settings is None or self._elements is None:
            return
        await self._may_check.wait()
        self._checks += 1
        self._try("bypassed", self._count_bypassed)
        self.asked.clear()  # what failed just now is what this check is for
        if self._is_slow:
            await self._check_aside(self._settings, self._elements)
        else:
            self._check(self._settings, self._elements)

    async def settle(self) -> bool:
        """Whether nothing is done in the thread, at the latest after SETTLE_S: a process that ends would leave it half done.

        No check begins from now on, until `resume`.
        """
        self._may_check.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.SETTLE_S):
                await self._idle.wait()
        return self._idle.is_set()

    def resume(self) -> None:
        """Checks go on: this process stays."""
        self._may_check.set()

    async def _check_aside(self, settings: Settings, elements: AnyElements) -> None:
        self._under_way = "being compared with the plan, as somebody changed a table"
        self._idle.clear()
        late = asyncio.get_running_loop().call_later(limits.REPAIR_SAY_S, self._say_late)
        try:
            await run_aside(lambda: self._check(settings, elements))
        finally:
            late.cancel()
            self._under_way, self._is_repairing, self._is_late = "", False, False
            self._idle.set()
        self._try("capture", self._write_capture)

    def _say_late(self) -> None:
        self._is_late = True
        _log.warning("interception_repair_slow", rules=self._under_way, since_s=limits.REPAIR_SAY_S,
                     effect="until it is done new connections may be refused")  # fmt: skip

    def _check(self, settings: Settings, elements: AnyElements) -> None:
        with kernel.shared_helpers():
            self._compare(settings, elements)

    def _compare(self, settings: Settings, elements: AnyElements) -> None:
        try:
            drift = kernel.verify(settings) or self._check_elements(elements)
        except RedirectError as error:
            self._fail("verify", error)
            return
        if drift:
            self._repair("; ".join(drift[:_SHOWN]))
        elif self._rules == "failed":
            self._rules, self._why = "active", ""

    def close(self) -> None:
        """Frees what belongs to libnftables; rules and elements stay."""
        if self._elements:
            self._elements.close()

    def _check_elements(self, elements: AnyElements) -> tuple[str, ...]:
        """Differences in the sets. After a failure nobody knows what they hold: all is written, not only what is missed."""
        if self._rules == "failed":
            elements.restore()
        self._write_capture(elements)
        if self._checks % checks_per_look(len(self._capture.addresses)):
            return ()
        drift = elements.verify_capture()
        elements.refill_cgroups()
        return drift

    def _write_capture(self, elements: AnyElements) -> None:
        """Nothing is done where the kernel has taken it already."""
        wanted = self._capture
        if wanted is not self._written:
            elements.set_capture(wanted.addresses, wanted.ports, wanted.loopback_ports, wanted.exceptions, wanted.catalog)
            self._written = wanted

    def _count_bypassed(self, elements: AnyElements) -> None:
        """The kernel counted them while nobody else could."""
        bypassed = elements.take_bypassed()
        if bypassed:
            self.bypassed += bypassed
            _log.warning("connections_bypassed", number=bypassed, why='the agent did not beat, and fail is "open" for them')

    def _set_units(self, elements: AnyElements, marks: dict[str, int], may_bypass: frozenset[int]) -> None:
        missing = elements.set_units(marks, may_bypass)
        if missing:  # gone since we looked, or with a name that no rule can hold: found by the slower look-up
            _log.info("units_not_stamped", paths=missing[:_SHOWN], number=len(missing))

    def _try(self, what: str, act: Callable[[AnyElements], object]) -> bool:
        """Whether it was done; a failure usually means that somebody took our table away: repair, then once more."""
        if self._elements is None:
            return False
        try:
            act(self._elements)
        except RedirectError as error:
            if self._is_slow:
                self._ask_for_check(what, error)
                return False
            if not self._repair(f"{what} failed: {error}"):
                return False
            try:
                act(self._elements)
            except RedirectError as again:
                self._fail(what, again)
                return False
        return True

    def _ask_for_check(self, what: str, error: RedirectError) -> None:
        """Unless that goes on already: what is missing is no news then."""
        if self._under_way:
            return
        if self._rules != "failed":
            self.asked.set()
        self._fail(what, error)

    def _repair(self, why: str) -> bool:
        """Whether rules and elements are as they should be again."""
        assert self._settings is not None
        assert self._elements is not None
        if time.monotonic() < self._repair_at:
            self._rules, self._why = "failed", why
            return False
        self._under_way, self._is_repairing = self._under_way and f"being repaired: {why}", True
        try:
            report = kernel.apply(self._settings)
            self._elements.restore()
            self._write_capture(self._elements)
        except RedirectError as error:
            self._fail("repair", error)
            self._repair_at = time.monotonic() + limits.BEAT_S
            return False
        self.repairs += 1
        self._rules, self._why = "repaired", why
        _log.error("interception_repaired", why=why, changes=report.changes[:_SHOWN], repairs=self.repairs)
        return True

    def _fail(self, what: str, error: RedirectError) -> None:
        self._rules, self._why = "failed", f"{what}: {error}"
        _log.error("interception_failed", what=what, error=str(error))


async def run_aside(act: Callable[[], None]) -> None:
    """Waits for `act` in a thread of its own. No signal is taken there: each is for the loop, or for the next program.

    The end of the process waits for no such thread.

    Raises:
        OSError: no thread can be started.
    """
    done: Future[None] = Future()
    done.set_running_or_notify_cancel()  # so that nobody can cancel it, but only no longer wait
    try:
        threading.Thread(target=_do, args=(act, done), daemon=True).start()
    except RuntimeError as error:  # what Python makes of the limit on processes
        raise OSError(errno.EAGAIN, "no thread can be started; see TasksMax= and ulimit -u") from error
    await asyncio.wrap_future(done)


def _do(act: Callable[[], None], done: "Future[None]") -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        act()
    except BaseException as error:  # noqa: BLE001 - whatever it is, who waits must hear of it
        done.set_exception(error)
    else:
        done.set_result(None)


def checks_per_look(addresses: int) -> int:
    """At how many checks the sets are looked into once: listing them must not keep this process busy."""
    return 1 + addresses // limits.ADDRESSES_PER_LOOK
