"""From a cgroup id to a unit. The look-ups in the kernel are tried for real in tests/e2e."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.process import owner as owner_module
from nodeagent.process import sock_diag
from nodeagent.process.cgroups import IdScan
from nodeagent.process.netlink import NetlinkError
from nodeagent.process.owner import CgroupIds, OwnerFinder
from nodeagent.process.units import UnitCgroup
from nodeagent.wire.requests import OwnerAnswer, OwnerQuestion


class Clock:
    """Time as the test says. Owned by one test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make_unit(root: Path, path: str) -> int:
    """A new cgroup of a unit; its id."""
    unit = root / path
    unit.mkdir(parents=True)
    return unit.stat().st_ino


def find(finder: OwnerFinder, number: int) -> list[OwnerAnswer]:
    """Asks; what was told comes into the list."""
    told: list[OwnerAnswer] = []
    finder.find(OwnerQuestion(number, b"\x7f\0\0\1", 1, b"\x7f\0\0\1", 15001), told.append)
    return told


@pytest.fixture
def owner(monkeypatch: pytest.MonkeyPatch) -> Callable[[sock_diag.Owner], None]:
    """Sets what the kernel says of the next connection."""

    def say(owner: sock_diag.Owner) -> None:
        monkeypatch.setattr(OwnerFinder, "_find", lambda *_: owner)

    return say


def test_a_cgroup_that_is_new_is_found_by_one_look(tmp_path: Path) -> None:
    """And what is known costs none."""
    clock = Clock()
    ids = CgroupIds(tmp_path, clock)
    first = make_unit(tmp_path, "system.slice/web.service")
    assert ids.try_unit(first) == "web.service"
    second = make_unit(tmp_path, "system.slice/shop.service/child")
    clock.now += limits.RESCAN_S
    assert ids.try_unit(second) == "shop.service"


def test_unknown_cgroups_cannot_make_us_look_all_the_time(tmp_path: Path) -> None:
    """Within RESCAN_S of a look nobody can say whose an unknown id is: neither anybody's nor nobody's."""
    clock = Clock()
    ids = CgroupIds(tmp_path, clock)
    assert ids.try_unit(1) == ""
    unit = make_unit(tmp_path, "web.service")
    assert ids.try_unit(unit) is None
    assert ids.wait_s == limits.RESCAN_S
    clock.now += limits.RESCAN_S
    assert ids.try_unit(unit) == "web.service"


def test_units_that_start_together_are_all_named(
    tmp_path: Path, owner: Callable[[sock_diag.Owner], None], deferred: list[tuple[float, Callable[[], None]]]
) -> None:
    """Who calls from a cgroup newer than the last look waits for the next; one look answers all who wait."""
    finder = OwnerFinder(CgroupIds(tmp_path, Clock()), lambda seconds, act: deferred.append((seconds, act)))
    try:
        owner(sock_diag.Owner(0, make_unit(tmp_path, "a.service")))
        assert find(finder, 1) == [OwnerAnswer(1, 0, "a.service")]
        late = []
        for number, name in ((2, "b.service"), (3, "c.service")):
            owner(sock_diag.Owner(7, make_unit(tmp_path, name)))
            late.append(find(finder, number))
        owner(sock_diag.Owner(7, 1))
        late.append(find(finder, 4))
        assert late == [[], [], []]
        ((seconds, act),) = deferred
        assert seconds == limits.RESCAN_S
        act()
        assert late == [[OwnerAnswer(2, 7, "b.service")], [OwnerAnswer(3, 7, "c.service")], [OwnerAnswer(4, 7, "")]]
    finally:
        finder.close()


@pytest.fixture
def deferred() -> list[tuple[float, Callable[[], None]]]:
    """What was put off: for how long, and what."""
    return []


def test_a_question_that_the_kernel_refuses_names_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unidentified is an answer; a crash or a guess is not."""

    def refuse(*_: object) -> None:
        raise NetlinkError(1, "Operation not permitted")

    monkeypatch.setattr(sock_diag, "find_row", refuse)
    monkeypatch.setattr("nodeagent.process.conntrack.find_original", refuse)
    finder = OwnerFinder(CgroupIds(tmp_path, Clock()), never)
    try:
        assert find(finder, 7) == [OwnerAnswer(7, -1, "", knows_unit=False)]
    finally:
        finder.close()


def test_a_connection_that_conntrack_does_not_know_is_nobodys(tmp_path: Path) -> None:
    """Asked of the real kernel."""
    finder = OwnerFinder(CgroupIds(tmp_path, Clock()), never)
    try:
        assert find(finder, 7) == [OwnerAnswer(7, -1, "", knows_unit=False)]
    finally:
        finder.close()


def never(seconds: float, act: Callable[[], None]) -> None:
    """Nothing is put off here."""
    raise AssertionError((seconds, act))


def test_who_was_not_seen_in_a_look_is_not_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's connections cost one look per cgroup of hers; strangers beyond the limit are forgotten, not piled up."""
    monkeypatch.setattr(limits, "CGROUPS_MAX", 2)
    clock = Clock()
    ids = CgroupIds(tmp_path, clock)
    looks: list[float] = []
    monkeypatch.setattr(owner_module, "scan_ids", lambda _root: looks.append(clock.now) or IdScan({}, is_whole=True))
    for stranger in (1, 1, 2, 1, 2):
        assert ids.try_unit(stranger) == ""
        clock.now += limits.RESCAN_S
    assert len(looks) == 2
    assert ids.try_unit(3) == ""
    assert len(ids._strangers) <= 2


def test_who_was_not_reached_by_a_look_that_was_cut_off_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not soon: such a look takes long. Until then the answer is nobody, at once."""
    clock = Clock()
    ids = CgroupIds(tmp_path, clock)
    unit = make_unit(tmp_path, "web.service/deep/deeper")
    with monkeypatch.context() as small, capture_logs() as log:
        small.setattr(limits, "CGROUPS_MAX", 1)
        assert ids.try_unit(unit) == ""
    assert [line["event"] for line in log] == ["cgroups_cut_off"]
    clock.now += limits.RESCAN_S
    assert ids.try_unit(unit) == ""
    clock.now += limits.RESCAN_CUT_S
    assert ids.try_unit(unit) == "web.service"


def test_a_tree_that_cannot_be_read_costs_nobody_but_the_asker_and_later_asks_are_answered(
    tmp_path: Path, owner: Callable[[sock_diag.Owner], None], deferred: list[tuple[float, Callable[[], None]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Out of descriptors: whoever asks is unidentified, at once or after the wait, and the way stays open."""
    clock = Clock()
    finder = OwnerFinder(CgroupIds(tmp_path, clock), lambda seconds, act: deferred.append((seconds, act)))
    unit = make_unit(tmp_path, "a.service")

    def fail(_root: Path) -> IdScan:
        raise OSError(errno.EMFILE, "Too many open files")

    try:
        owner(sock_diag.Owner(7, unit))
        with monkeypatch.context() as broken, capture_logs() as log:
            broken.setattr(owner_module, "scan_ids", fail)
            assert find(finder, 1) == [OwnerAnswer(1, -1, "", knows_unit=False)]
            late = find(finder, 2)
            assert late == []
            deferred.pop()[1]()
            assert late == [OwnerAnswer(2, -1, "", knows_unit=False)]
        late = find(finder, 3)
        deferred.pop()[1]()
        assert late == [OwnerAnswer(3, 7, "a.service")]
        assert [line["event"] for line in log] == ["owner_query_failed"]
    finally:
        finder.close()


@pytest.mark.parametrize("is_noted", [False, True])
def test_a_cgroup_that_is_gone_is_still_the_unit_s_that_it_was(tmp_path: Path, *, is_noted: bool) -> None:
    """A socket that was handed to another process outlives it; whether it was seen by a look or told does not matter."""
    clock = Clock()
    ids = CgroupIds(tmp_path, clock)
    gone = make_unit(tmp_path, "cron.service")
    if is_noted:
        ids.note({"cron.service": UnitCgroup("cron.service", gone)})
    else:
        assert ids.try_unit(gone) == "cron.service"
    (tmp_path / "cron.service").rmdir()
    clock.now += limits.RESCAN_S
    ids.look()
    assert ids.try_unit(gone) == "cron.service"
    assert ids.knows(gone)


def test_units_that_are_gone_are_remembered_as_far_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restarts for years must not fill the memory."""
    monkeypatch.setattr(limits, "CGROUPS_MAX", 4)
    ids = CgroupIds(tmp_path, Clock())
    for number in range(2, 100):
        ids.note({"web.service": UnitCgroup("web.service", number)})
        assert ids.knows(number)
        assert len(ids._units) <= 2 * limits.CGROUPS_MAX


def test_nobody_knows_the_unit_of_a_cgroup_that_was_not_reached_nor_of_the_root(
    tmp_path: Path, owner: Callable[[sock_diag.Owner], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is another answer than "of no unit": a rule by unit may be meant for it."""
    finder = OwnerFinder(CgroupIds(tmp_path, Clock()), never)
    monkeypatch.setattr(limits, "CGROUPS_MAX", 1)
    try:
        owner(sock_diag.Owner(7, make_unit(tmp_path, "web.service/deep/deeper")))
        assert find(finder, 1) == [OwnerAnswer(1, 7, "", knows_unit=False)]
        owner(sock_diag.Owner(7, 0))
        assert find(finder, 2) == [OwnerAnswer(2, 7, "", knows_unit=False)]
    finally:
        finder.close()
