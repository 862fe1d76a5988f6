"""Keeps the kernel's map of units, and what workers know of it, in step with the cgroup tree."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from nodeagent import limits
from nodeagent.observe.log import open_log
from nodeagent.process.cgroups import Scan, SliceWatch, scan_units
from nodeagent.process.seldom import Seldom
from nodeagent.process.units import Marks, StampedUnit, UnitCgroup, stamped

_log = open_log()


class UnitMap:
    """Follows the units below a cgroup root. Owned by the supervisor.

    A unit that starts is in the kernel's map some milliseconds after its cgroup was made; who connects before is found
    by the slower look-up.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, root: Path,
        tell: Callable[[Mapping[int, str]], None], load: Callable[[tuple[StampedUnit, ...]], bool],
        note: Callable[[Mapping[str, UnitCgroup]], None], given: Marks | None = None,
    ) -> None:  # fmt: skip
        """`tell` tells the workers what marks mean; `load` puts the map into the kernel, and says whether it is there.

        `note` remembers what was seen, for those who are looked up; `given` is what a predecessor's marks mean.
        """
        self._loop = loop
        self._root = root
        self._tell = tell
        self._load = load
        self._note = note
        self.given = given or Marks()
        """What marks mean."""
        self.keep: Callable[[Marks], None] = lambda _: None
        """Has a successor know it, before the first connection has such a mark."""
        self._loaded: dict[str, UnitCgroup] | None = None
        self._watched: set[int] = set()
        """Of this moment's slices; one that was made anew under its old name has another number."""
        self._watch = SliceWatch()
        self._complaint = Seldom(loop.time)

    def start(self) -> None:
        """Loads the units that exist and follows what comes."""
        self._loop.add_reader(self._watch.fileno(), self._see_change)
        self.follow()

    def follow(self) -> None:
        """Looks at the slices; tells and loads what is new. The workers know a mark before any connection has it."""
        scan = self._scan()
        self._note(scan.units)
        changed = self.given.follow(scan.units)
        if changed:
            self.keep(self.given)
            self._tell(changed)
        if scan.units != self._loaded and self._load(stamped(scan.units, self.given)):
            self._loaded = scan.units

    def marks(self) -> dict[int, str]:
        """Every mark that may be on a connection."""
        return self.given.all()

    def __len__(self) -> int:
        return len(self._loaded or ())

    def close(self) -> None:
        """Follows no more."""
        self._loop.remove_reader(self._watch.fileno())
        self._watch.close()

    def _see_change(self) -> None:
        self._watch.clear()
        try:
            self.follow()
        except OSError as error:  # the look that is taken every few seconds catches up
            if self._complaint.is_due():
                _log.error("units_not_seen", error=str(error), effect="new units are seen some seconds late")

    def _scan(self) -> Scan:
        """The units, each slice watched before it was looked at, so that none can come unseen in between."""
        for _ in range(limits.SLICE_LOOKS):
            scan = scan_units(self._root)
            watched = {watch for path in scan.slices if (watch := self._try_watch(path))}
            has_new = bool(watched - self._watched)
            self._watched = watched
            if not has_new:
                break
        return scan

    def _try_watch(self, path: Path) -> int:
        """The number of the watch; 0 without one. The look that is taken every few seconds sees an unwatched slice too."""
        try:
            return self._watch.watch(path)
        except OSError as error:
            if self._complaint.is_due():
                _log.error("slice_not_watched", error=str(error), effect="its new units are seen some seconds late")
            return 0
