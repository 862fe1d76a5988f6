"""Answers a worker's question whose a redirected connection is: conntrack, then sock_diag, then the cgroup tree."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from nodeagent import limits
from nodeagent.observe.log import open_log
from nodeagent.process import conntrack, sock_diag
from nodeagent.process.cgroups import scan_ids
from nodeagent.process.netlink import NetlinkSocket
from nodeagent.process.seldom import Seldom
from nodeagent.process.units import UnitCgroup
from nodeagent.wire.requests import OwnerAnswer, OwnerQuestion
from redirect.ctnetlink import NETFILTER
from redirect.flow import Flow

_log = open_log()


Tell = Callable[[OwnerAnswer], None]
Defer = Callable[[float, Callable[[], None]], object]
"""Calls something after so many seconds, as a loop's `call_later`."""


class CgroupIds:
    """cgroup id -> unit, looked at anew when an id is not known, but not all the time. Owned by the supervisor."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._root = root
        self._units: dict[int, str] = {}
        """Those that are gone included, as far as there is room: sockets outlive the cgroup that they were made in."""
        self._strangers: set[int] = set()
        """Ids that a look at the whole tree did not find. The kernel gives none twice, so they are in no unit for ever."""
        self._is_whole = True
        """Whether the last look saw every unit."""
        self._looked_at = float("-inf")
        self._complaint = Seldom(clock)

    @property
    def wait_s(self) -> float:
        """Seconds until the tree may be looked at again."""
        gap = limits.RESCAN_S if self._is_whole else limits.RESCAN_CUT_S
        return max(0.0, self._looked_at + gap - self.clock())

    def try_unit(self, cgroup_id: int) -> str | None:
        """The unit; empty when the cgroup belongs to none or is gone; None: only another look can tell, after `wait_s`.

        Empty also where the last look was cut off and the next one is far: nobody waits that long.

        Raises:
            OSError: the tree could not be read.
        """
        if cgroup_id not in self._units and cgroup_id not in self._strangers:
            if self.wait_s:
                return None if self._is_whole else ""
            self.look()
        return self.seen_unit(cgroup_id)

    def knows(self, cgroup_id: int) -> bool:
        """Whether it is known which unit the cgroup belongs to, or that it is none's."""
        return cgroup_id in self._units or cgroup_id in self._strangers

    def note(self, units: Mapping[str, UnitCgroup]) -> None:
        """Remembers units that were seen elsewhere: they may be gone before anybody asks."""
        self._remember({cgroup.cgroup_id: unit for unit, cgroup in units.items()})

    def seen_unit(self, cgroup_id: int) -> str:
        """The unit of a cgroup that is older than the last look; who was not in the whole tree is not looked for again."""
        unit = self._units.get(cgroup_id, "")
        if not unit and self._is_whole and cgroup_id not in self._strangers:
            if len(self._strangers) >= limits.CGROUPS_MAX:
                self._strangers.clear()
            self._strangers.add(cgroup_id)
        return unit

    def look(self) -> None:
        """Looks at the whole tree.

        Raises:
            OSError: it could not be read; not tried again before RESCAN_S either.
        """
        try:
            scan = scan_ids(self._root)
        finally:
            self._looked_at = self.clock()
        self._remember(scan.units)
        self._is_whole = scan.is_whole
        if not scan.is_whole and self._complaint.is_due():
            _log.warning("cgroups_cut_off", limit=limits.CGROUPS_MAX, effect="some connections are unidentified")

    def _remember(self, units: dict[int, str]) -> None:
        if len(self._units) + len(units) > 2 * limits.CGROUPS_MAX:
            self._units = {}
        self._units |= units


class _Waiting(NamedTuple):
    """A question that is answered but for the unit."""

    number: int
    owner: sock_diag.Owner
    tell: Tell


class OwnerFinder:
    """The two look-ups that need the supervisor's privilege. Owned by the supervisor.

    Whatever fails gives "unidentified": a wrong name would be worse than none.
    """

    def __init__(self, ids: CgroupIds, defer: Defer) -> None:
        self._ids = ids
        self._defer = defer
        self._waiting: list[_Waiting] = []
        self._complaint = Seldom(ids.clock)
        self._conntrack = NetlinkSocket(NETFILTER)
        self._sock_diag = NetlinkSocket(sock_diag.NETLINK_SOCK_DIAG)

    def find(self, question: OwnerQuestion, tell: Tell) -> None:
        """Tells who opened the connection that came from `peer` to our listener.

        At once, but where the cgroup is newer than a look that was just taken: units often start together. The kernel is
        asked at once in any case, as its answer is about this moment.
        """
        reply = Flow(question.listener_ip, question.listener_port, question.peer_ip, question.peer_port)
        try:
            owner = self._find(reply)
            unit = self._ids.try_unit(owner.cgroup_id) if owner.cgroup_id else ""
        except OSError as error:
            self._complain(error)
            owner, unit = sock_diag.NOBODY, ""
        if unit is not None:
            tell(self._answer(question.number, owner, unit))
            return
        self._waiting.append(_Waiting(question.number, owner, tell))
        if len(self._waiting) == 1:
            self._defer(self._ids.wait_s, self._answer_waiting)

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._waiting)

    def close(self) -> None:
        """Gives both sockets back."""
        self._conntrack.close()
        self._sock_diag.close()

    def _answer_waiting(self) -> None:
        """One look for all; who is unknown even now is in no unit of this host. Without a look nobody is known."""
        waiting, self._waiting = self._waiting, []
        try:
            self._ids.look()
        except OSError as error:
            self._complain(error)
            for number, _, tell in waiting:
                tell(self._answer(number, sock_diag.NOBODY, ""))
            return
        for number, owner, tell in waiting:
            tell(self._answer(number, owner, self._ids.seen_unit(owner.cgroup_id)))

    def _answer(self, number: int, owner: sock_diag.Owner, unit: str) -> OwnerAnswer:
        return OwnerAnswer(number, owner.uid, unit, self._ids.knows(owner.cgroup_id))

    def _complain(self, error: OSError) -> None:
        if self._complaint.is_due():
            _log.warning("owner_query_failed", error=str(error), effect="connections are unidentified")

    def _find(self, reply: Flow) -> sock_diag.Owner:
        original = conntrack.find_original(self._conntrack, reply)
        row = sock_diag.find_row(self._sock_diag, original) if original else None
        return sock_diag.believe(row) if row else sock_diag.NOBODY
