"""systemd units and their marks: cgroup path -> unit, unit name -> mark. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nodeagent import limits

_UNTRUSTED_SLICES = frozenset({"user.slice", "machine.slice"})
"""Below them others than the host's administrator name units: a user's `web.service` is not `web`."""


class UnitCgroup(NamedTuple):
    """Where a unit lives now. A unit that was restarted has the same path and another id."""

    path: str
    """Below the host's cgroup root, such as `system.slice/web.service`."""
    cgroup_id: int


class StampedUnit(NamedTuple):
    """A unit whose connections the kernel stamps."""

    unit: str
    mark: int
    path: str


def is_unit_name(name: str) -> bool:
    """Whether a directory of this name is a service unit that can be told to the workers."""
    return name.endswith(".service") and name != ".service" and name.isprintable() and len(name.encode()) <= 255


def is_trusted_slice(name: str) -> bool:
    """Whether what lies below a directory of this name may be a system unit."""
    return name.endswith(".slice") and name not in _UNTRUSTED_SLICES


def unit_of(path: str) -> str:
    """The unit that a cgroup path below the host's root belongs to; empty: none.

    It is the first `*.service` below only `*.slice` parts other than user.slice and machine.slice, so that
    `user.slice/user-1000.slice/user@1000.service/app.slice/web.service` is not `web.service`.
    """
    for part in path.strip("/").split("/"):
        if not is_trusted_slice(part):
            return part if is_unit_name(part) else ""
    return ""


class Marks:
    """Unit name -> mark. Owned by the supervisor.

    A mark stands for a name, not for a cgroup: a restarted unit keeps it, and connections that were stamped before its
    end are still its own. The marks of units that are gone are given away again only when no unused one is left, the
    longest gone first.
    """

    def __init__(
        self, size: int = limits.UNIT_MARKS, *, mark_of: Mapping[str, int] | None = None, gone: Iterable[str] = ()
    ) -> None:
        """`mark_of` and `gone`: what a predecessor gave, which holds on."""
        self._size = size
        self._mark_of = dict(mark_of or {})
        self._gone: dict[str, None] = dict.fromkeys(gone)
        """Names that hold a mark and no cgroup, longest gone first."""

    def follow(self, units: Iterable[str]) -> dict[int, str]:
        """Marks that mean something new now that exactly `units` exist: mark -> unit."""
        present = sorted(set(units))
        for unit in self._mark_of.keys() - set(present) - self._gone.keys():
            self._gone[unit] = None
        for unit in present:
            self._gone.pop(unit, None)
        changed: dict[int, str] = {}
        for unit in present:
            if unit not in self._mark_of and (mark := self._free_mark()):
                self._mark_of[unit] = mark
                changed[mark] = unit
        return changed

    def mark_of(self, unit: str) -> int:
        """The unit's mark; 0 when all marks are in use by units that exist."""
        return self._mark_of.get(unit, 0)

    def all(self) -> dict[int, str]:
        """Every mark that may still be on a connection."""
        return {mark: unit for unit, mark in self._mark_of.items()}

    def gone(self) -> tuple[str, ...]:
        """Names that hold a mark and no cgroup, longest gone first."""
        return tuple(self._gone)

    def _free_mark(self) -> int:
        if len(self._mark_of) < self._size:
            return limits.UNIT_MARK_BASE | (len(self._mark_of) + 1)
        if not self._gone:
            return 0
        oldest = next(iter(self._gone))
        del self._gone[oldest]
        return self._mark_of.pop(oldest)


def stamped(units: Mapping[str, UnitCgroup], marks: Marks) -> tuple[StampedUnit, ...]:
    """What the kernel's map shall hold, in a stable order."""
    rows = (StampedUnit(unit, marks.mark_of(unit), cgroup.path) for unit, cgroup in sorted(units.items()))
    return tuple(row for row in rows if row.mark)
