"""Switched off it touches nothing; what the kernel once refused gets there. The rest is tried for real in tests/e2e."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from nodeagent import limits
from nodeagent.process import guard as guard_module
from nodeagent.process.capture import Capture
from nodeagent.process.guard import Guard, checks_per_look, run_aside
from nodeagent.process.units import StampedUnit
from redirect.elements import Exceptions
from redirect.errors import RedirectError
from redirect.kernel import Report
from redirect.settings import Settings
from tests.support.loop import run, until
from tests.support.nft_sets import NftSets


def test_whoever_watches_hears_of_each_beat_for_how_long_it_holds() -> None:
    """And that none is to hold any more, when it is let fall on purpose."""
    told: list[float | None] = []
    guard = Guard(None, on_beat=told.append)
    guard.beat()
    guard.beat(unheard_s=2.5)
    guard.beat(limits.REPLACED_S)
    guard.stop_beat()
    assert told == [limits.ALIVE_S, limits.ALIVE_S - 2.5, limits.REPLACED_S, None]


def test_switched_off_it_says_so_and_takes_everything() -> None:
    """No table, no netlink, no failure; units count as loaded, so that nobody tries again and again."""
    guard = Guard(None)
    guard.install("system.slice/nodeagent.service")
    guard.capture(Capture(("10.0.0.1",), (80,), ("port 22",)))
    guard.beat()
    guard.stop_beat()
    asyncio.run(guard.check())
    assert guard.load_units("", [StampedUnit("a.service", 1, "a.service")])
    guard.close()
    assert (guard.condition, guard.detail, guard.repairs) == ("off", "intercept.enabled is false", 0)
    guard.capture(Capture(overflow="1 ports beyond the limit of 1"))
    assert guard.condition == "off"


def test_switched_off_it_removes_what_was_installed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would beat for it. Where nothing is, nothing is touched; where that fails, the detail says so."""
    removals: list[Report] = []

    def remove(*, is_agent_idle: bool) -> Report:
        assert not is_agent_idle  # workers of before may still accept what needs it
        removals.append(Report(("table inet nodeagent: removed",), left=("2 sockets of captured connections are open",)))
        return removals[-1]

    monkeypatch.setattr(guard_module.kernel, "remove", remove)
    monkeypatch.setattr(guard_module, "installed_backends", lambda: ())
    guard = Guard(None)
    guard.remove()
    assert removals == []
    monkeypatch.setattr(guard_module, "installed_backends", lambda: ("nft",))
    with structlog.testing.capture_logs() as log:
        guard.remove()
    assert [line["event"] for line in log] == ["interception_changed", "interception_left"]
    assert (guard.condition, guard.detail) == ("off", "intercept.enabled is false")

    def fail(**_: object) -> Report:
        raise RedirectError("busy")

    monkeypatch.setattr(guard_module.kernel, "remove", fail)
    guard.remove()
    assert (guard.condition, guard.is_standing) == ("off", True)
    assert guard.detail.endswith("rules of before cannot be removed: busy")


def test_what_was_left_is_taken_when_nothing_needs_it_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside our own listener, and as often as it takes; each thing is said once, and then the kernel is left alone."""
    outcomes = [Report(left=("an agent listens",)), RedirectError("busy"), RedirectError("busy"), Report(left=("2 sockets",)), Report(("keeper: removed",))]
    asked: list[bool] = []

    def remove(*, is_agent_idle: bool) -> Report:
        asked.append(is_agent_idle)
        outcome = outcomes.pop(0)
        if isinstance(outcome, Report):
            return outcome
        raise outcome

    monkeypatch.setattr(guard_module.kernel, "remove", remove)
    monkeypatch.setattr(guard_module, "installed_backends", lambda: ("nft",))
    guard = Guard(None)
    with structlog.testing.capture_logs() as log:
        guard.remove()
        for _ in range(2):
            asyncio.run(guard.clear())
        assert guard.detail == "intercept.enabled is false, but rules of before cannot be removed: busy"
        for _ in range(3):
            asyncio.run(guard.clear())
    assert asked == [False, True, True, True, True]
    assert [line["event"] for line in log] == ["interception_left", "interception_not_removed", "interception_changed"]
    assert (guard.condition, guard.detail) == ("off", "intercept.enabled is false")


@pytest.mark.parametrize(("addresses", "checks"), [(0, 1), (19_999, 1), (20_000, 2), (limits.CAPTURE_ADDRESSES, 11)])
def test_the_more_addresses_the_rarer_they_are_looked_at(addresses: int, checks: int) -> None:
    """What it costs stays the same, and yet every set is looked at within a minute."""
    assert checks_per_look(addresses) == checks
    assert checks * limits.DRIFT_S <= 60


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch) -> NftSets:
    """What the kernel holds."""
    return NftSets(monkeypatch)


@pytest.fixture
def guard(sets: NftSets) -> Guard:
    """One that captures an address and a port."""
    guard = Guard(Settings(agent_uids=(64901,)))
    guard.capture(Capture(("10.0.0.1",), (80,)))
    return guard


def test_an_address_that_the_kernel_refused_is_written_at_the_next_check(sets: NftSets, guard: Guard) -> None:
    """Until then the state is a failure: it would be reached in clear, and the catalog may not change for days."""
    sets.refuses = True
    guard.capture(Capture(("10.0.0.1", "10.0.0.2"), (80,)))
    asyncio.run(guard.check())
    assert (guard.condition, sets["mesh4"]) == ("failed", {"10.0.0.1"})
    sets.refuses = False
    asyncio.run(guard.check())
    assert (guard.condition, sets["mesh4"]) == ("active", {"10.0.0.1", "10.0.0.2"})


def test_a_table_that_came_back_empty_is_never_called_active(
    sets: NftSets, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there are so many addresses that the sets are looked into at few checks only."""
    monkeypatch.setattr(limits, "ADDRESSES_PER_LOOK", 0.01)
    sets.delete_table()
    sets.refuses = True
    asyncio.run(guard.check())
    assert (guard.condition, sets["mesh4"]) == ("failed", set())
    sets.refuses = False
    asyncio.run(guard.check())
    assert (guard.condition, sets["mesh4"], sets["local_ports"]) == ("active", {"10.0.0.1"}, {"80"})


def test_one_turn_waits_for_somebody_elses_lock_once(sets: NftSets, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait for each thing that fails would take the time of the beat; the next second tries again."""
    waits: list[Settings] = []

    def refuse(settings: Settings) -> Report:
        waits.append(settings)
        raise RedirectError("another process has been changing the rules for 2 s")

    with monkeypatch.context() as patch:
        patch.setattr(guard_module.kernel, "apply", refuse)
        sets.delete_table()
        asyncio.run(guard.check())
        guard.load_units("", [StampedUnit("a.service", 1, "a.service")])
        guard.beat()
        assert (len(waits), guard.condition) == (1, "failed")
    guard._repair_at -= limits.BEAT_S
    guard.beat()
    assert (guard.condition, sets["mesh4"]) == ("repaired", {"10.0.0.1"})


def test_what_bypassed_a_dead_agent_is_told_once(sets: NftSets, guard: Guard) -> None:
    """By the successor: the kernel counted."""
    sets.bypassed = 3
    with structlog.testing.capture_logs() as logs:
        asyncio.run(guard.check())
        asyncio.run(guard.check())
    assert guard.bypassed == 3
    assert [row["number"] for row in logs if row["event"] == "connections_bypassed"] == [3]


def test_exceptions_and_callers_reach_the_sets(sets: NftSets) -> None:
    """A unit that stays closed has no mark among those that may pass; nor has one of which nothing is known."""
    guard = Guard(Settings(agent_uids=(64901,), fail="open", knows_callers=True), lambda unit: unit == "shop.service")
    guard.capture(Capture(("10.0.0.1",), (80,), exceptions=Exceptions("open", (("10.0.0.1", 443),), (80,))))
    units = [StampedUnit("shop.service", 0x5A000001, "gone/shop.service"), StampedUnit("web.service", 0x5A000002, "gone/web.service")]
    assert guard.load_units("", units)
    assert (sets["except4"], sets["except_ports"], sets["told_open"]) == ({"10.0.0.1 . 443"}, {"80"}, {"tcp"})
    assert sets["open_callers"] == {"0x5a000002"}
    guard.capture(Capture(("10.0.0.1",), (80,)))
    assert (sets["except4"], sets["told_open"]) == (set(), set())


def test_where_the_catalog_is_reaches_the_sets_and_stays(sets: NftSets, guard: Guard) -> None:
    """Also while a new control has not found it yet."""
    guard.capture(Capture(("10.0.0.1",), (80,), catalog=("10.0.0.9", "fd77::9")))
    guard.capture(Capture(("10.0.0.1",), (81,)))
    assert (sets["catalog4"], sets["catalog6"], sets["local_ports"]) == ({"10.0.0.9"}, {"fd77::9"}, {"81"})


def test_what_an_earlier_agent_captured_stays_until_control_has_spoken(sets: NftSets) -> None:
    """An empty set would be traffic in clear, after a repair of the rules too."""
    guard = Guard(Settings(agent_uids=(64901,)))
    sets["mesh4"].add("10.0.0.9")
    asyncio.run(guard.check())
    sets.drift = ("chain out: missing",)
    asyncio.run(guard.check())
    assert (guard.condition, sets["mesh4"]) == ("repaired", {"10.0.0.9"})


class SlowTables:
    """An iptables backend whose repair lasts until a test lets it end. Nothing is touched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goes_on = threading.Event()
        self.beats: list[int] = []
        self.captured: list[tuple[str, ...]] = []
        self.sets_are_there = True
        calls: dict[str, Callable[..., Any]] = {
            "beat": self._beat, "take_bypassed": lambda: 0, "restore": lambda: None, "verify_capture": lambda: (),
            "refill_cgroups": lambda: None, "set_capture": lambda addresses, *_: self.captured.append(addresses),
        }  # fmt: skip
        monkeypatch.setattr(guard_module, "open_elements", lambda _: SimpleNamespace(**calls))
        monkeypatch.setattr(guard_module.kernel, "verify", lambda _: ("IPv4 table nat, chain OUTPUT is missing",))
        monkeypatch.setattr(guard_module.kernel, "apply", self._apply)

    def _beat(self, lives_s: int) -> None:
        if not self.sets_are_there:
            raise RedirectError("ipset nodeagent_alive4 is not there")
        self.beats.append(lives_s)

    def _apply(self, _settings: Settings) -> Report:
        assert self.goes_on.wait(20)
        self.sets_are_there = True
        return Report(("iptables of IPv4: rules replaced",))


def test_beats_go_on_while_iptables_is_repaired_and_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a busy host seconds: the switch would fall. What is to be captured meanwhile is written afterwards."""
    monkeypatch.setattr(limits, "REPAIR_SAY_S", 0.01)
    tables = SlowTables(monkeypatch)

    async def scene() -> None:
        guard = Guard(Settings(agent_uids=(64901,), backend="iptables"))
        checking = asyncio.create_task(guard.check())
        with structlog.testing.capture_logs() as log:
            await until(lambda: log and guard.condition == "failed", "a word in log and status")
            guard.beat()
            guard.capture(Capture(("10.0.0.1",), (80,)))
            assert (tables.beats, tables.captured, checking.done()) == ([limits.ALIVE_S], [], False)
            assert guard.detail == "being repaired: IPv4 table nat, chain OUTPUT is missing"
            tables.goes_on.set()
            await checking
        assert [line["event"] for line in log] == ["interception_repair_slow", "interception_repaired"]
        assert (guard.condition, guard.repairs, tables.captured) == ("repaired", 1, [("10.0.0.1",)])

    run(scene)


def test_a_beat_that_fails_asks_for_a_repair_at_once_and_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody destroyed the sets; one that fails while that goes on is no news."""
    tables = SlowTables(monkeypatch)
    tables.sets_are_there = False

    async def scene() -> None:
        guard = Guard(Settings(agent_uids=(64901,), backend="iptables"))
        with structlog.testing.capture_logs() as log:
            guard.beat()
            assert (guard.condition, guard.asked.is_set()) == ("failed", True)
            checking = asyncio.create_task(guard.check())
            await asyncio.sleep(0)
            guard.beat()
            tables.goes_on.set()
            await checking
            guard.beat()
        assert [line["event"] for line in log] == ["interception_failed", "interception_repaired"]
        assert (guard.condition, guard.asked.is_set(), tables.beats) == ("repaired", False, [limits.ALIVE_S])

    run(scene)


def test_a_check_asks_for_no_other_and_whoever_ends_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails within it is what it is for; a process that ends in the middle would leave half a repair."""
    tables = SlowTables(monkeypatch)
    tables.sets_are_there = False

    async def scene() -> None:
        guard = Guard(Settings(agent_uids=(64901,), backend="iptables"))
        assert await guard.settle()
        guard.resume()
        monkeypatch.setattr(guard, "_count_bypassed", lambda _elements: tables._beat(1))
        checking = asyncio.create_task(guard.check())
        await asyncio.sleep(0)
        settling = asyncio.create_task(guard.settle())
        await asyncio.sleep(0)
        assert (guard.asked.is_set(), settling.done()) == (False, False)
        tables.goes_on.set()
        await checking
        assert await settling

    run(scene)


def test_after_it_is_settled_no_check_begins_until_this_process_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also none that a failing last beat asks for; and a repair that outlasts the wait is told."""
    tables = SlowTables(monkeypatch)
    monkeypatch.setattr(limits, "SETTLE_S", 0.01)

    async def scene() -> None:
        guard = Guard(Settings(agent_uids=(64901,), backend="iptables"))
        assert await guard.settle()
        tables.sets_are_there = False
        guard.beat()
        checking = asyncio.create_task(guard.check())
        await asyncio.sleep(0)
        assert (guard._idle.is_set(), guard.asked.is_set(), checking.done()) == (True, True, False)
        guard.resume()
        await until(lambda: not guard._idle.is_set(), "the check")
        assert not await guard.settle()
        tables.goes_on.set()
        await checking
        assert await guard.settle()

    run(scene)


def test_a_thread_that_is_left_does_not_keep_the_process() -> None:
    """It would go on without a beat until it is done."""
    program = """
import asyncio, threading
from nodeagent.process.guard import run_aside
async def main():
    runs = threading.Event()
    task = asyncio.create_task(run_aside(lambda: (runs.set(), threading.Event().wait())))
    while not runs.is_set():
        await asyncio.sleep(0.01)
    task.cancel()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=20, capture_output=True, check=True)
    assert done.stderr == b""


def test_a_thread_beside_the_loop_takes_no_signal_and_its_lack_is_an_error_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload that is asked for while this program is replaced would be lost in it."""
    blocked: set[int] = set()
    run(lambda: run_aside(lambda: blocked.update(signal.pthread_sigmask(signal.SIG_BLOCK, []))))
    assert {signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1} <= blocked

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="no thread can be started"):
        run(lambda: run_aside(lambda: None))


def test_what_an_earlier_agent_let_bypass_is_forgotten_at_the_start(
    sets: NftSets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was said under a configuration of then; what is captured stays, also where nobody knows what that is."""
    (tmp_path / "nodeagent.service").mkdir()
    monkeypatch.setattr("redirect.elements.read_mount", lambda: str(tmp_path))
    for name, element in (("mesh4", "10.0.0.9"), ("except4", "10.0.0.9 . 80"), ("told_closed", "tcp")):
        sets[name].add(element)
    Guard(Settings(agent_uids=(64901,))).install("nodeagent.service")
    assert (sets["mesh4"], sets["told_closed"]) == ({"10.0.0.9"}, set())
