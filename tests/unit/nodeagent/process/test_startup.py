"""Start-up: the order of its steps, and what it refuses. The steps themselves are tried for real in tests/e2e."""

import os
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.config import Config, parse_config
from nodeagent.errors import ConfigError
from nodeagent.process import key_file, startup
from nodeagent.process.capture import Capture
from nodeagent.process.handover import Handover, PassedMarks
from nodeagent.process.inherited import KEYS, MARKS
from nodeagent.process.interception import basis_of
from nodeagent.process.listeners import ListenerSet
from nodeagent.process.slot import Slot
from nodeagent.process.startup import STEPS, worker_count
from nodeagent.process.units import Marks
from redirect.elements import Exceptions

TEXT = '[host]\nname = "h"\naddresses = ["10.0.0.1"]\nworkers = {}\n[catalog]\naddress = "https://c:8501"\n'


def test_the_fleet_asks_the_control_that_there_is_whether_policy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made by a later step. One that has no policy tells none, though it is not mute."""
    monkeypatch.setattr(startup, "inherited_start", lambda *_: "b")
    made: list[Any] = []
    monkeypatch.setattr(startup, "Fleet", lambda *arguments: made.append(arguments[4]))
    parts = SimpleNamespace(
        config=parse_config(TEXT.format(0), "test"), users=SimpleNamespace(worker=(1, 1)), owners=SimpleNamespace(find=None),
        notifier=SimpleNamespace(is_there=False, forget=None), store=None, passed=None, generation=1, last_serial=0, loop=None,
        families=(), environ={},
    )  # fmt: skip
    startup._make_fleet(cast("Any", parts), AsyncExitStack())
    parts.control = SimpleNamespace(tells_policy=False, is_mute=False, is_awaited=True)
    assert (made[0].is_policy_told(), made[0].is_policy_awaited()) == (False, True)


@pytest.mark.parametrize(("setting", "cores", "count"), [(0, 1, 1), (0, 2, 2), (0, 64, 4), (3, 1, 3), (8, 2, 8)])
def test_there_is_a_worker_per_core_and_at_most_four_unless_told_otherwise(setting: int, cores: int, count: int) -> None:
    """More cores belong to the applications."""
    assert worker_count(parse_config(TEXT.format(setting), "test"), cores) == count


def test_power_is_dropped_before_anything_is_started_and_rules_stand_before_anybody_dials() -> None:
    """The order is the meaning."""
    names = [step.__name__ for step in STEPS]
    assert names.index("_lock") < names.index("_bind") < names.index("_drop") < names.index("_intercept")
    assert names.index("_intercept") < names.index("_follow_units") < names.index("_launch") == len(names) - 1


def test_the_root_cgroup_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There the agent's own connections could not be told from others."""
    (tmp_path / "cgroup").write_text("0::/\n")
    monkeypatch.setattr(startup, "_PROC_SELF", tmp_path)
    with pytest.raises(ConfigError, match="runs in the root cgroup"):
        startup.agent_cgroup()
    (tmp_path / "cgroup").write_text("0::/system.slice/nodeagent.service\n")
    assert startup.agent_cgroup() == "system.slice/nodeagent.service"


@pytest.mark.parametrize(
    ("is_on_disk", "is_stored", "found"), [(True, True, b"stored"), (True, False, b"on disk"), (False, True, b"stored"), (False, False, b"")]
)
def test_keys_that_were_left_to_us_are_newer_than_those_on_disk(found: bytes, tmp_path: Path, *, is_on_disk: bool, is_stored: bool) -> None:
    """And where none may be on disk, none is."""
    path = tmp_path / "keys"
    path.write_bytes(b"on disk")
    path.chmod(0o600)
    parts: Any = SimpleNamespace(passed=None, stored=[(KEYS, key_file._sealed(b"stored"))] if is_stored else [])
    memory = startup._recall_keys(parts, path, is_on_disk=is_on_disk)
    assert (os.pread(memory, 100, 0) if memory >= 0 else b"") == found
    assert path.exists() is is_on_disk
    if memory >= 0:
        os.close(memory)


@pytest.mark.parametrize(("held", "closed"), [(limits.SETS_PER_WORKER, 0), (limits.SETS_PER_WORKER + 2, 2)])
def test_a_worker_takes_so_many_sets_and_no_more(held: int, closed: int) -> None:
    """They go in one message; what is beyond is closed, and the log says what that costs."""
    forgotten: list[str] = []
    slot = Slot([ListenerSet(f"listeners-{number}", ()) for number in range(held)])
    notifier = SimpleNamespace(forget=forgotten.append)
    parts: Any = SimpleNamespace(slots=[slot], families=(), notifier=notifier, store=lambda _: None)
    with capture_logs() as log:
        startup._complete(parts, slot)
    assert len(slot.sets) == limits.SETS_PER_WORKER
    assert [line["event"] for line in log] == ["listeners_closed"] * closed == ["listeners_closed"] * len(forgotten)


@pytest.mark.parametrize(("inherited", "bound"), [(0, [1, 1, 1]), (2, [1, 1, 0])])
def test_a_place_that_is_new_beside_others_has_no_sockets_before_it_has_a_worker(
    monkeypatch: pytest.MonkeyPatch, inherited: int, bound: list[int]
) -> None:
    """The others serve, and are sent what would wait there. At a first start nobody comes, and a port that is taken is told at once."""
    monkeypatch.setattr(startup, "inherited_slots", lambda _: [Slot([ListenerSet(f"listeners-{number}", ())]) for number in range(inherited)])
    monkeypatch.setattr(startup, "usable_families", lambda: (4,))
    monkeypatch.setattr(startup, "check_ports_are_free", lambda _: None)
    monkeypatch.setattr(startup, "complete_set", lambda each, _: each)
    notifier = SimpleNamespace(forget=lambda _: None)
    parts: Any = SimpleNamespace(config=parse_config(TEXT.format(3), "test"), notifier=notifier, store=lambda _: None)
    startup._bind(parts, AsyncExitStack())
    assert [len(slot.sets) for slot in parts.slots] == bound


CONFIG = parse_config(TEXT.format(1) + '[service.web]\nfail = "open"\n', "test")
STRICT = parse_config(TEXT.format(1) + '[service.web]\nfail = "open"\nmode = "strict"\n', "test")
CAPTURED = Capture(("10.0.0.2",), (80,), exceptions=Exceptions("closed", (("10.0.0.2", 80),), (80,)))


def recalled(config: Config, capture: Capture, basis: bytes) -> Capture | None:
    """What a successor begins with that was handed over."""
    passed = Handover(1, "1", 0.0, -1, (), (), PassedMarks({}, ()), capture, (), (), 0, basis=basis)
    parts: Any = SimpleNamespace(passed=passed, config=config)
    startup._recall(parts, AsyncExitStack())
    saved: Capture | None = parts.saved
    return saved


def test_what_may_bypass_outlives_a_reload_that_changes_nothing_of_it() -> None:
    """What was decided under another configuration, or by a version that does not say under which, does not."""
    assert recalled(CONFIG, CAPTURED, basis_of(CONFIG)) == CAPTURED
    for config, basis in ((STRICT, basis_of(CONFIG)), (CONFIG, b"")):
        assert recalled(config, CAPTURED, basis) == replace(CAPTURED, exceptions=None)


def test_before_control_has_spoken_a_reload_says_nothing() -> None:
    """Else it would empty the sets that an earlier agent filled."""
    assert recalled(CONFIG, Capture(), basis_of(CONFIG)) is None


@pytest.mark.parametrize("saved", [CAPTURED, None])
def test_the_disk_s_word_on_what_may_bypass_is_not_taken(saved: Capture | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows under which configuration it was said."""
    monkeypatch.setattr(startup, "try_saved_capture", lambda _: saved)
    user = SimpleNamespace(gid=os.getgid())
    parts: Any = SimpleNamespace(passed=None, config=CONFIG, users=SimpleNamespace(control=user))
    startup._recall(parts, AsyncExitStack())
    assert parts.saved == (saved and Capture(("10.0.0.2",), (80,)))


@pytest.mark.parametrize("fails", ["memory", "copies"])
def test_rather_no_marks_are_kept_than_those_of_before(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next agent would give their later numbers to others, and a connection that waits would speak as another unit."""

    def fail(_marks: Marks) -> int:
        raise OSError(24, "Too many open files")

    told: list[str] = []
    notifier = SimpleNamespace(store=lambda *_, **__: fails != "copies", forget=told.append)
    monkeypatch.setattr(startup, "marks_to_keep", fail if fails == "memory" else lambda _: os.open(os.devnull, os.O_RDONLY))
    startup.Parts.keep_marks(cast("startup.Parts", SimpleNamespace(notifier=notifier)), Marks())
    assert told == [MARKS]
