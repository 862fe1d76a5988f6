"""The supervisor refuses before it changes anything, and outlives a lack. What it does is tried for real in tests/e2e."""

import asyncio
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.config import parse_config
from nodeagent.errors import ConfigError
from nodeagent.process import supervisor as supervisor_module
from nodeagent.process.capture import Capture
from nodeagent.process.guard import Guard
from nodeagent.process.handover import Handover, PassedMarks
from nodeagent.process.hearing import Hearing
from nodeagent.process.notify import Notifier
from nodeagent.process.orders import SpawnerSetup
from nodeagent.process.privileges import User
from nodeagent.process.reload import Command, ReloadRefused, own_command
from nodeagent.process.startup import Parts, Users
from nodeagent.process.supervisor import HELD_SIGNALS, RESTART, Signals, Supervisor, run_supervisor
from nodeagent.process.unit_map import UnitMap
from nodeagent.process.units import StampedUnit
from nodeagent.process.worker_process import Origin
from nodeagent.process.workers import Fleet, FleetCalls
from nodeagent.wire.frames import WorkerFacts
from tests.support.loop import run, until

TEXT = (
    '[host]\nname = "h"\naddresses = ["10.0.0.1"]\ncontrol_user = 64901\nworker_user = 64901\n'
    '[catalog]\naddress = "https://c:8501"\n[admin]\nsocket = "{}/run/api.sock"\n'
)


def test_a_refusal_comes_before_anything_is_made(tmp_path: Path) -> None:
    """No run directory, no lock."""
    with pytest.raises(ConfigError, match="the same uid 64901"):
        run_supervisor(parse_config(TEXT.format(tmp_path), "test"), tmp_path / "nodeagent.toml")
    assert list(tmp_path.iterdir()) == []


def test_who_is_not_root_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cure."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="must be started as root"):
        run_supervisor(parse_config(TEXT.format(tmp_path), "test"), tmp_path / "nodeagent.toml")


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_passing_want_of_descriptors_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line in the log; afterwards it sees what is new."""
    monkeypatch.setattr(limits, "DRIFT_S", 0.01)
    loaded: list[str] = []

    def load(units: tuple[StampedUnit, ...]) -> bool:
        loaded.extend(row.unit for row in units)
        return True

    async def scene() -> None:
        parts = Parts(parse_config(TEXT.format(tmp_path), "test"), tmp_path / "nodeagent.toml")
        parts.loop = asyncio.get_running_loop()
        calls = FleetCalls(lambda _question, _tell: None, dict, lambda _worker: None, lambda: 0.0)
        parts.fleet = Fleet(parts.loop, (), SpawnerSetup(parts.config, 64902, 64902, "b"), {}, calls)
        parts.guard = Guard(None)
        parts.control = parts.key_file = parts.sentry = cast("Any", SimpleNamespace(pid=0))
        parts.own_cgroup, parts.users = tmp_path / "none", Users(User(64901, 64901), User(64902, 64902))
        parts.units = UnitMap(parts.loop, tmp_path, lambda _marks: None, load, lambda _units: None)
        watching = asyncio.create_task(Supervisor(parts, Signals(parts.loop), own_command())._watch())
        try:
            with capture_logs() as log, no_descriptors():
                await until(lambda: log or watching.done(), "a complaint")
                parts.fleet.changed.clear()
                await until(lambda: parts.fleet.changed.is_set() or watching.done(), "the next look")
            (tmp_path / "web.service").mkdir()
            await until(lambda: loaded or watching.done(), "the new unit")
            assert loaded == ["web.service"]
            assert [(line["event"], "Too many open files" in line["error"]) for line in log] == [("watch_failed", True)]
        finally:
            watching.cancel()
            parts.units.close()
            parts.notifier.close()

    run(scene)


def supervisor_of(**facts: Any) -> Supervisor:
    """One whose parts are only these facts."""
    loop = asyncio.get_running_loop()
    fleet = SimpleNamespace(changed=asyncio.Event(), are_all_serving=lambda: False, has_unsent=False)
    key_file = sentry = SimpleNamespace(pid=0, settle=lambda: asyncio.sleep(0), stop=lambda: asyncio.sleep(0), trouble="")
    known: Any = {"passed": None, "fleet": fleet, "guard": Guard(None), "sentry": sentry, "notifier": Notifier({}, 1), "key_file": key_file, **facts}
    known["notifier"].close()
    return Supervisor(cast("Parts", SimpleNamespace(loop=loop, **known)), Signals(loop), own_command())


def test_a_reload_waits_for_the_one_before_it_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generation that never serves must be replaceable."""
    monkeypatch.setattr(limits, "SETTLE_S", 0.2)

    async def scene() -> None:
        supervisor = supervisor_of()
        began = asyncio.get_running_loop().time()
        await supervisor._settle()
        assert 0.19 < asyncio.get_running_loop().time() - began < 2

    run(scene)


def test_what_was_asked_is_answered_before_it_goes_but_nobody_holds_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that does not read, or a look at a large tree."""
    monkeypatch.setattr(limits, "QUIET_S", 0.2)

    async def scene() -> None:
        owners = SimpleNamespace(is_busy=True)
        supervisor = supervisor_of(owners=owners)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await supervisor._fall_silent()
        assert 0.2 <= loop.time() - began < 2
        owners.is_busy = False
        async with asyncio.timeout(0.1):
            await supervisor._fall_silent()

    run(scene)


def test_a_reload_that_is_asked_for_in_the_last_moment_waits_for_the_successor() -> None:
    """The signal stays with the process, whatever program it runs."""

    async def scene() -> None:
        supervisor = supervisor_of()
        os.kill(os.getpid(), signal.SIGHUP)
        try:
            await supervisor._hold_signals()
            assert signal.SIGHUP in signal.sigpending()
            supervisor._signals.reload.clear()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)
        await until(supervisor._signals.reload.is_set, "it is heard here, as there is none")

    run(scene)


def test_what_the_manager_shall_keep_is_told_before_it_goes() -> None:
    """As far as it listens in time."""

    async def scene() -> None:
        notifier = SimpleNamespace(has_unsent=True, flushed=0)

        def flush() -> None:
            notifier.flushed += 1
            notifier.has_unsent = notifier.flushed < 3

        notifier.flush = flush
        supervisor = supervisor_of(owners=SimpleNamespace(is_busy=False))
        supervisor._parts.notifier = cast("Any", notifier)
        await supervisor._fall_silent()
        assert notifier.flushed == 3

    run(scene)


def test_a_reload_of_which_the_watchdog_would_not_hear_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would end the successor. A manager that was only slow has heard in the end, and for how long."""
    monkeypatch.setattr(limits, "QUIET_S", 0.1)
    monkeypatch.setattr(limits, "AWAY_S", 7.5)
    answers = {7.5: [False, True]}

    async def scene() -> None:
        supervisor = supervisor_of()
        supervisor._parts.notifier = cast("Any", SimpleNamespace(away=lambda for_s: bool(answers[for_s]) and answers[for_s].pop(0)))
        await supervisor._say_away()
        assert answers == {7.5: []}
        with pytest.raises(ReloadRefused, match="does not read what it is told"):
            await supervisor._say_away()

    run(scene)


def test_a_stop_in_the_middle_of_a_reload_leaves_a_control_for_the_drain() -> None:
    """The fleet, which drains, bears nobody for it."""
    told: list[str] = []

    async def note(what: str) -> None:
        told.append(what)

    async def leave() -> None:
        told.append("leaves")
        await asyncio.Event().wait()

    async def scene() -> None:
        fleet = SimpleNamespace(leave=leave, stay=lambda: told.append("stays"), living=list, changed=asyncio.Event())
        control = SimpleNamespace(stop=lambda: note("stopped"), revive=lambda: told.append("revived"))
        reload = asyncio.create_task(supervisor_of(fleet=fleet, control=control, generation=1)._hand_on(b""))
        await until(lambda: "leaves" in told, "under way")
        reload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reload
        assert told == ["stopped", "leaves", "revived"]

    run(scene)


def test_a_program_that_goes_away_after_its_check_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control and the fleet go on, and signals are heard; so they do after a defect of ours. Each is told in `status`."""
    nothing = Handover(1, "1", 0.0, -1, (), (), PassedMarks({}, ()), Capture(), (), (), 0)
    monkeypatch.setattr(supervisor_module, "value_to_pass", lambda *_: nothing)
    told: list[str] = []

    async def note(what: str) -> bool:
        told.append(what)
        return True

    def note_start(what: str) -> None:
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(HELD_SIGNALS), "its children would not hear them"
        told.append(what)

    async def scene() -> None:
        fleet = SimpleNamespace(
            leave=lambda: note("left"), stay=lambda: note_start("stays"), staying=list, living=list, has_unsent=False,
            are_all_serving=lambda: True, changed=asyncio.Event(),
        )  # fmt: skip
        control = SimpleNamespace(stop=lambda: note("stopped"), revive=lambda: note_start("revived"))
        owners, key_file = SimpleNamespace(is_busy=False), SimpleNamespace(settle=lambda: note("saved"))
        guard = SimpleNamespace(beat=lambda s: told.append(f"beats {s}"), settle=lambda: note("whole"), resume=lambda: told.append("checks"))
        supervisor = supervisor_of(fleet=fleet, control=control, owners=owners, key_file=key_file, guard=guard, generation=1, environ={})
        supervisor._command = Command("/no/such/program", ["x"])
        with pytest.raises(FileNotFoundError):
            await supervisor._hand_on(b"")
        assert told == ["whole", "stopped", "saved", "left", f"beats {limits.REPLACED_S}", "checks", "revived", "stays"]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(HELD_SIGNALS) == set()

        async def fail(*_: object) -> bytes:
            raise KeyError("defect")

        monkeypatch.setattr(supervisor_module, "check_successor", fail)
        reloads = asyncio.create_task(supervisor._follow_reloads())
        supervisor._signals.reload.set()
        await until(lambda: supervisor._refused, "refused")
        assert (supervisor._refused, supervisor._refusal) == (1, "a defect: KeyError('defect')")
        assert reloads.cancel()

    run(scene)


def test_a_reload_is_refused_while_rules_are_being_repaired_and_nothing_is_stopped() -> None:
    """The repair would end half done."""
    told: list[str] = []

    async def scene() -> None:
        fleet = SimpleNamespace(stay=lambda: told.append("stays"), living=list)
        guard = SimpleNamespace(beat=None, settle=lambda: asyncio.sleep(0, result=False), resume=lambda: told.append("checks"))
        control = SimpleNamespace(revive=lambda: told.append("revived"))
        with pytest.raises(ReloadRefused, match="still being compared or repaired after 15 s"):
            await supervisor_of(fleet=fleet, control=control, guard=guard, generation=1)._hand_on(b"")
        assert told == ["checks", "revived", "stays"]

    run(scene)


def test_what_a_program_starts_that_checks_itself_is_not_taken_for_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its helpers are children of a child."""
    looks: list[bool] = []
    monkeypatch.setattr(supervisor_module, "end_remains", lambda *_, **__: looks.append(True))

    async def scene() -> None:
        control = fleet = SimpleNamespace(pid=0, living=list, spawner=SimpleNamespace(pid=0))
        supervisor = supervisor_of(control=control, fleet=fleet, kin=None)
        for supervisor._is_checking, expected in ((True, []), (False, [True])):
            supervisor._end_remains()
            assert looks == expected

    run(scene)


def test_a_refusal_without_words_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "check_successor", lambda *_: asyncio.wait_for(asyncio.Event().wait(), 0))

    async def scene() -> None:
        said, fleet = list[str](), SimpleNamespace(are_all_serving=lambda: True, changed=asyncio.Event())
        supervisor = supervisor_of(fleet=fleet, environ={})
        monkeypatch.setattr(supervisor._parts.notifier, "says", said.append)
        reloads = asyncio.create_task(supervisor._follow_reloads())
        for count in (1, 2):
            supervisor._signals.reload.set()
            await until(lambda count=count: supervisor._refused == count, "refused")
        assert (supervisor._refusal, set(said)) == ("TimeoutError", {"reload refused, all goes on as before: TimeoutError"})
        reloads.cancel()

    run(scene)


def test_control_knows_who_serves_before_the_manager_hears_that_all_do() -> None:
    """`systemctl start` returns with READY: who looks at `status` then shall not see what was true a second ago."""
    told: list[object] = []

    async def scene() -> None:
        facts = [WorkerFacts(0, 4001, 0.0, 0, "serving")]
        fleet = SimpleNamespace(changed=asyncio.Event(), are_all_serving=lambda: True, slots=[0], facts=lambda: facts, unserved=0)
        guard = SimpleNamespace(is_standing=True, condition="active", detail="", repairs=0, bypassed=0, beat=lambda: None)
        control = SimpleNamespace(tell=lambda stats: told.append(stats.workers), hearing=Hearing(float))
        supervisor = supervisor_of(fleet=fleet, guard=guard, control=control, units=(), generation=1, started_at=0.0, configured_at=0.0)
        supervisor._parts.notifier = cast("Any", SimpleNamespace(ready=told.append))
        supervisor._heartbeat = cast("Any", SimpleNamespace(turn=lambda: asyncio.sleep(0, told.append("beat"))))
        await supervisor._announce()
        assert told == ["beat", facts, "1 workers, interception active"]

    run(scene)


class Restarted:
    """What a supervisor does with its parts, in order, once it has heard these signals; its reloads never end by themselves."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.owners = SimpleNamespace(is_busy=True)

    async def note(self, what: str) -> None:
        """As a part that takes a while."""
        self.told.append(what)

    def serve(self, *numbers: signal.Signals) -> None:
        """Until it is over."""

        async def scene() -> None:
            say = self.told.append
            fleet = SimpleNamespace(
                leave=lambda: self.note("nobody is born"), release=lambda: say("workers are released"), living=list, has_unsent=False,
                drain=lambda *_: self.note("drain"), are_all_serving=lambda: False, changed=asyncio.Event(), facts=list,
                is_holding=False, unserved=0,
            )  # fmt: skip
            control = SimpleNamespace(stop=lambda: self.note("control ends"), tell=lambda _: None, is_mute=False, hearing=Hearing(float))
            guard = SimpleNamespace(beat=lambda: say("beat"), stop_beat=lambda: say("no beat"), settle=lambda: self.note("rules are whole"), condition="off", detail="")
            sentry = SimpleNamespace(stop=lambda: asyncio.sleep(0), dismiss=lambda kin: say(f"{kin} sentries end"), trouble="")
            facts = {"sentry": sentry, "kin": "all", "config": parse_config(TEXT.format("/tmp"), "test"), "owners": self.owners}
            supervisor = supervisor_of(fleet=fleet, control=control, guard=guard, **facts)
            supervisor._outlast_orphans = lambda _: self.note("orphans end")  # type: ignore[method-assign]
            supervisor._tell = supervisor._watch = lambda: self.note("")  # type: ignore[method-assign]
            for number in numbers:
                os.kill(os.getpid(), number)
            asyncio.get_running_loop().call_later(0.2, setattr, self.owners, "is_busy", False)
            await supervisor.serve()

        run(scene)
        self.told = [what for what in self.told if what]


@pytest.mark.parametrize("numbers", [(RESTART,), (RESTART, signal.SIGTERM), (signal.SIGTERM, RESTART)])
def test_a_restart_leaves_workers_and_sockets_and_says_one_more_beat(numbers: tuple[signal.Signals, ...]) -> None:
    """Also where the service manager's SIGTERM is heard in the same moment: it follows in any case."""
    restarted = Restarted()
    restarted.serve(*numbers)
    assert restarted.told == ["rules are whole", "control ends", "nobody is born", "workers are released", "beat"]
    assert not restarted.owners.is_busy


def test_a_stop_drains_and_leaves_nobody() -> None:
    """New connections are refused first. A sentry of before a reload goes, too."""
    (restarted := Restarted()).serve(signal.SIGTERM)
    assert restarted.told == ["no beat", "drain", "orphans end", "rules are whole", "control ends", "all sentries end"]


@pytest.mark.parametrize(("generations", "is_serving", "expected"), [((3, 3), True, True), ((3, 2), True, False), ((3, 3), False, False)])
def test_what_connections_need_is_touched_once_nobody_of_before_is_left(generations: tuple[int, ...], *, is_serving: bool, expected: bool) -> None:
    """Who drains may still call an application from its caller's address."""

    async def scene() -> None:
        living = [SimpleNamespace(origin=Origin(generation)) for generation in generations]
        fleet = SimpleNamespace(are_all_serving=lambda: is_serving, living=lambda: living)
        assert supervisor_of(fleet=fleet, generation=3)._are_all_ours() is expected

    run(scene)


def test_who_waits_after_a_reload_has_not_done_so_for_as_long_as_the_process_lives() -> None:
    """It keeps its age when it becomes another program."""

    async def scene() -> None:
        hearts = [supervisor_of(passed=passed)._heartbeat for passed in (None, object())]
        assert [heart._held_at == heart._last_at for heart in hearts] == [False, True]

    run(scene)
