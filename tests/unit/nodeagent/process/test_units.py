"""Cgroup paths and the units and marks that they stand for."""

import pytest

from nodeagent import limits
from nodeagent.process.units import Marks, StampedUnit, UnitCgroup, is_unit_name, stamped, unit_of


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("system.slice/web.service", "web.service"),
        ("/system.slice/web.service/", "web.service"),
        ("system.slice/system-db.slice/db@1.service", "db@1.service"),
        ("system.slice/web.service/worker/3", "web.service"),
        ("system.slice/web.service/init.scope", "web.service"),
        ("system.slice/docker.service/web.service", "docker.service"),
        ("web.service", "web.service"),
        (r"system.slice/a\x2db.service", r"a\x2db.service"),
        ("user.slice/user-1000.slice/user@1000.service/app.slice/web.service", ""),
        ("machine.slice/machine-x.scope/system.slice/web.service", ""),
        ("machine.slice/web.service", ""),
        ("system.slice/user.slice/web.service", ""),
        ("system.slice/session-1.scope/web.service", ""),
        ("init.scope", ""),
        ("", ""),
        ("/", ""),
        ("system.slice", ""),
        ("system.slice/.service", ""),
        ("system.slice/web.service.d", ""),
        ("system.slice/" + "x" * 250 + ".service", ""),
        ("system.slice/we\nb.service", ""),
        ("system.slice/we\udcffb.service", ""),
    ],
)
def test_a_unit_is_the_first_service_below_trusted_slices_only(path: str, unit: str) -> None:
    """What a user or a container calls itself never counts, nor what lies below another unit."""
    assert unit_of(path) == unit


def test_the_longest_name_that_systemd_allows_is_a_unit() -> None:
    """255 bytes; it fits into the message to the workers."""
    assert is_unit_name("x" * 247 + ".service")
    assert not is_unit_name("x" * 248 + ".service")


def test_a_restarted_unit_keeps_its_mark() -> None:
    """Connections that were stamped before the restart still name it."""
    marks = Marks()
    first = marks.follow(["web.service", "shop.service"])
    assert first == {limits.UNIT_MARK_BASE | 1: "shop.service", limits.UNIT_MARK_BASE | 2: "web.service"}
    assert marks.follow(["web.service"]) == {}
    assert marks.follow(["web.service", "shop.service", "db.service"]) == {limits.UNIT_MARK_BASE | 3: "db.service"}
    assert marks.mark_of("shop.service") == limits.UNIT_MARK_BASE | 1


def test_marks_are_given_away_again_only_when_none_is_left_and_the_longest_gone_first() -> None:
    """A mark is not reused quickly: a connection may still carry it."""
    marks = Marks(size=3)
    marks.follow(["a.service", "b.service", "c.service"])
    marks.follow(["b.service", "c.service"])
    marks.follow(["c.service"])
    assert marks.follow(["c.service", "d.service"]) == {limits.UNIT_MARK_BASE | 1: "d.service"}
    assert marks.mark_of("a.service") == 0
    assert marks.all() == {
        limits.UNIT_MARK_BASE | 1: "d.service",
        limits.UNIT_MARK_BASE | 2: "b.service",
        limits.UNIT_MARK_BASE | 3: "c.service",
    }


def test_units_beyond_the_marks_are_not_stamped() -> None:
    """They are found by the slower look-up."""
    marks = Marks(size=1)
    marks.follow(["a.service", "b.service"])
    units = {name: UnitCgroup(f"system.slice/{name}", 1) for name in ("b.service", "a.service")}
    assert stamped(units, marks) == (StampedUnit("a.service", limits.UNIT_MARK_BASE | 1, "system.slice/a.service"),)


def test_there_are_marks_for_every_unit_that_a_host_can_have() -> None:
    """Each in the lower half of the mark, none twice; the one unit too many has none."""
    marks = Marks()
    given = marks.follow([f"u{number}.service" for number in range(limits.UNIT_MARKS + 1)])
    assert len(given) == limits.UNIT_MARKS
    assert {mark & ~0xFFFF for mark in given} == {limits.UNIT_MARK_BASE}


def test_marks_that_a_predecessor_gave_hold_on() -> None:
    """A worker of before would take another name for this one: none is given anew while an unused one is left."""
    before = Marks(3)
    before.follow(["a.service", "b.service"])
    before.follow(["b.service"])
    after = Marks(3, mark_of={unit: mark for mark, unit in before.all().items()}, gone=before.gone())
    assert (after.all(), after.gone()) == (before.all(), ("a.service",))
    assert after.follow(["b.service", "c.service"]) == {limits.UNIT_MARK_BASE | 3: "c.service"}
    assert after.follow(["b.service", "c.service", "d.service"]) == {limits.UNIT_MARK_BASE | 1: "d.service"}
