"""The map of units follows a tree of directories."""

import asyncio
import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.process import unit_map
from nodeagent.process.cgroups import Scan, SliceWatch, scan_units
from nodeagent.process.unit_map import UnitMap
from nodeagent.process.units import StampedUnit, UnitCgroup
from tests.support.loop import run, until


class Kernel:
    """Remembers what it was told and loaded, in order. Owned by one test."""

    def __init__(self, *, takes: bool = True) -> None:
        self.log: list[object] = []
        self.loaded: tuple[StampedUnit, ...] | None = None
        self.takes = takes
        self.noted: dict[int, str] = {}

    def tell(self, units: Mapping[int, str]) -> None:
        """As the fleet."""
        self.log.append(dict(units))

    def load(self, units: tuple[StampedUnit, ...]) -> bool:
        """As the guard."""
        self.log.append(units)
        if self.takes:
            self.loaded = units
        return self.takes

    def note(self, units: Mapping[str, UnitCgroup]) -> None:
        """As the finder of owners."""
        self.noted |= {cgroup.cgroup_id: unit for unit, cgroup in units.items()}

    def names(self) -> list[str]:
        """Units in the map."""
        return [row.unit for row in self.loaded or ()]


def mark(number: int) -> int:
    """The mark of the n-th unit."""
    return limits.UNIT_MARK_BASE | number


def test_workers_know_a_mark_before_the_kernel_stamps_it(tmp_path: Path) -> None:
    """Told first, loaded second."""
    (tmp_path / "system.slice/web.service").mkdir(parents=True)

    async def scene() -> None:
        kernel = Kernel()
        units = UnitMap(asyncio.get_running_loop(), tmp_path, kernel.tell, kernel.load, kernel.note)
        units.start()
        units.close()
        row = StampedUnit("web.service", mark(1), "system.slice/web.service")
        assert kernel.log == [{mark(1): "web.service"}, (row,)]
        assert len(units) == 1
        assert units.marks() == {mark(1): "web.service"}
        assert kernel.noted == {(tmp_path / row.path).stat().st_ino: "web.service"}

    run(scene)


def test_units_that_come_and_go_are_followed_also_in_new_slices(tmp_path: Path) -> None:
    """A slice is watched before it is looked at: a unit made at the same moment is not missed."""

    async def scene() -> None:
        kernel = Kernel()
        units = UnitMap(asyncio.get_running_loop(), tmp_path, kernel.tell, kernel.load, kernel.note)
        units.start()
        deep = tmp_path / "system.slice" / "system-db.slice" / "db@1.service"
        deep.mkdir(parents=True)
        await until(lambda: kernel.names() == ["db@1.service"], "the first unit")
        (tmp_path / "system.slice" / "web.service").mkdir()
        await until(lambda: kernel.names() == ["db@1.service", "web.service"], "the second unit")
        deep.rmdir()
        await until(lambda: kernel.names() == ["web.service"], "the first is gone")
        deep.mkdir()
        await until(lambda: kernel.names() == ["db@1.service", "web.service"], "it is back")
        assert kernel.loaded
        assert kernel.loaded[0].mark == mark(1)
        units.close()

    run(scene)


def test_a_unit_made_again_between_two_looks_is_loaded_again(tmp_path: Path) -> None:
    """Same name, same path, other cgroup: the kernel holds the number of the dead one."""
    unit, other = tmp_path / "system.slice/web.service", tmp_path / "system.slice/other.service"
    unit.mkdir(parents=True)

    async def scene() -> None:
        kernel = Kernel()
        units = UnitMap(asyncio.get_running_loop(), tmp_path, kernel.tell, kernel.load, kernel.note)
        units.follow()
        other.mkdir()  # so that the file system does not give the old number again
        unit.rename(tmp_path / "kept")
        unit.mkdir()
        other.rmdir()
        units.follow()
        assert len([entry for entry in kernel.log if isinstance(entry, tuple)]) == 2
        units.follow()
        assert len([entry for entry in kernel.log if isinstance(entry, tuple)]) == 2
        units.close()

    run(scene)


def test_what_the_kernel_did_not_take_is_tried_again_at_the_next_look(tmp_path: Path) -> None:
    """The periodic look is enough."""
    (tmp_path / "web.service").mkdir()

    async def scene() -> None:
        kernel = Kernel(takes=False)
        units = UnitMap(asyncio.get_running_loop(), tmp_path, kernel.tell, kernel.load, kernel.note)
        units.follow()
        assert len(units) == 0
        kernel.takes = True
        units.follow()
        assert kernel.names() == ["web.service"]
        units.close()

    run(scene)


def test_a_slice_that_cannot_be_watched_stops_no_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches run out: the units are followed all the same, by looking."""
    (tmp_path / "system.slice/web.service").mkdir(parents=True)

    def refuse(_watch: SliceWatch, _path: Path) -> int:
        raise OSError(28, "no watch is left")

    monkeypatch.setattr(SliceWatch, "watch", refuse)

    async def scene() -> None:
        kernel = Kernel()
        units = UnitMap(asyncio.get_running_loop(), tmp_path, kernel.tell, kernel.load, kernel.note)
        units.start()
        assert kernel.names() == ["web.service"]
        (tmp_path / "system.slice/shop.service").mkdir()
        units.follow()
        assert kernel.names() == ["shop.service", "web.service"]
        units.close()

    run(scene)


def test_slices_that_come_all_the_time_do_not_keep_the_supervisor_from_its_beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some looks it goes on with what it saw; the next change brings another."""
    numbers, looks = itertools.count(1), 0
    monkeypatch.setattr(SliceWatch, "watch", lambda _watch, _path: next(numbers))

    def look(root: Path) -> Scan:
        nonlocal looks
        looks += 1
        return scan_units(root)

    monkeypatch.setattr(unit_map, "scan_units", look)

    async def scene() -> None:
        kernel = Kernel()
        units = UnitMap(asyncio.get_running_loop(), tmp_path, kernel.tell, kernel.load, kernel.note)
        units.follow()
        units.close()

    run(scene)
    assert looks == limits.SLICE_LOOKS


def test_a_look_that_fails_is_told_once_and_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Descriptors run out: no traceback for each unit that starts meanwhile."""
    (tmp_path / "system.slice").mkdir()

    def fail(_root: Path) -> Scan:
        raise OSError(24, "Too many open files")

    async def scene() -> None:
        kernel = Kernel()
        units = UnitMap(asyncio.get_running_loop(), tmp_path, kernel.tell, kernel.load, kernel.note)
        units.start()
        with monkeypatch.context() as patch:
            patch.setattr("nodeagent.process.unit_map.scan_units", fail)
            for _ in range(3):
                units._see_change()
        (tmp_path / "system.slice/web.service").mkdir()
        units.follow()
        assert kernel.names() == ["web.service"]
        units.close()

    run(scene)
    assert capsys.readouterr().out.count("units_not_seen") == 1
