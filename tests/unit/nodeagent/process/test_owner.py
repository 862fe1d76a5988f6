"""From a cgroup id to a unit. The look-ups in the kernel are tried for real in tests/e2e."""

from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.process import sock_diag
from nodeagent.process.netlink import NetlinkError
from nodeagent.process.owner import CgroupIds, OwnerFinder
from nodeagent.wire.requests import OwnerAnswer, OwnerQuestion


class Clock:
    """Time as the test says. Owned by one test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_cgroup_that_is_new_is_found_by_one_look(tmp_path: Path) -> None:
    """And what is known costs none."""
    clock = Clock()
    ids = CgroupIds(tmp_path, clock)
    first = tmp_path / "system.slice" / "web.service"
    first.mkdir(parents=True)
    assert ids.unit_of(first.stat().st_ino) == "web.service"
    second = tmp_path / "system.slice" / "shop.service" / "child"
    second.mkdir(parents=True)
    clock.now += limits.RESCAN_S
    assert ids.unit_of(second.stat().st_ino) == "shop.service"


def test_unknown_cgroups_cannot_make_us_look_all_the_time(tmp_path: Path) -> None:
    """Within RESCAN_S of a look, an unknown id is nobody's."""
    clock = Clock()
    ids = CgroupIds(tmp_path, clock)
    assert ids.unit_of(1) == ""
    unit = tmp_path / "web.service"
    unit.mkdir()
    assert ids.unit_of(unit.stat().st_ino) == ""
    clock.now += limits.RESCAN_S
    assert ids.unit_of(unit.stat().st_ino) == "web.service"


def test_a_question_that_the_kernel_refuses_names_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unidentified is an answer; a crash or a guess is not."""

    def refuse(*_: object) -> None:
        raise NetlinkError(1, "Operation not permitted")

    monkeypatch.setattr(sock_diag, "find_row", refuse)
    monkeypatch.setattr("nodeagent.process.conntrack.find_original", refuse)
    finder = OwnerFinder(CgroupIds(tmp_path, Clock()))
    try:
        answer = finder.find(OwnerQuestion(7, b"\x7f\0\0\1", 1, b"\x7f\0\0\1", 15001))
    finally:
        finder.close()
    assert answer == OwnerAnswer(7, -1, "")


def test_a_connection_that_conntrack_does_not_know_is_nobodys(tmp_path: Path) -> None:
    """Asked of the real kernel."""
    finder = OwnerFinder(CgroupIds(tmp_path, Clock()))
    try:
        answer = finder.find(OwnerQuestion(7, b"\x7f\0\0\1", 1, b"\x7f\0\0\1", 15001))
    finally:
        finder.close()
    assert answer == OwnerAnswer(7, -1, "")
