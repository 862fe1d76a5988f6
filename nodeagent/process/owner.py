"""Answers a worker's question whose a redirected connection is: conntrack, then sock_diag, then the cgroup tree."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from nodeagent import limits
from nodeagent.observe.log import open_log
from nodeagent.process import conntrack, sock_diag
from nodeagent.process.cgroups import scan_ids
from nodeagent.process.conntrack import Flow
from nodeagent.process.netlink import NetlinkError, NetlinkSocket
from nodeagent.wire.requests import OwnerAnswer, OwnerQuestion

_log = open_log()


Tell = Callable[[OwnerAnswer], None]
Defer = Callable[[float, Callable[[], None]], object]
"""Calls something after so many seconds, as a loop's `call_later`."""


class CgroupIds:
    """cgroup id -> unit, looked at anew when an id is not known, but not all the time. Owned by the supervisor."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self._root = root
        self._clock = clock
        self._units: dict[int, str] = {}
        self._looked_at = float("-inf")

    @property
    def wait_s(self) -> float:
        """Seconds until the tree may be looked at again."""
        return max(0.0, self._looked_at + limits.RESCAN_S - self._clock())

    def try_unit(self, cgroup_id: int) -> str | None:
        """The unit; empty when the cgroup belongs to none or is gone; None: only another look can tell, after `wait_s`."""
        if cgroup_id not in self._units:
            if self.wait_s:
                return None
            self.look()
        return self._units.get(cgroup_id, "")

    def look(self) -> None:
        """Looks at the whole tree."""
        self._units = scan_ids(self._root)
        self._looked_at = self._clock()


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
        self._conntrack = NetlinkSocket(conntrack.NETLINK_NETFILTER)
        self._sock_diag = NetlinkSocket(sock_diag.NETLINK_SOCK_DIAG)

    def find(self, question: OwnerQuestion, tell: Tell) -> None:
        """Tells who opened the connection that came from `peer` to our listener.

        At once, but where the cgroup is newer than a look that was just taken: units often start together. The kernel is
        asked at once in any case, as its answer is about this moment.
        """
        reply = Flow(question.listener_ip, question.listener_port, question.peer_ip, question.peer_port)
        try:
            owner = self._find(reply)
        except NetlinkError as error:
            _log.warning("owner_query_failed", error=str(error))
            owner = sock_diag.NOBODY
        unit = self._ids.try_unit(owner.cgroup_id) if owner.cgroup_id else ""
        if unit is not None:
            tell(OwnerAnswer(question.number, owner.uid, unit))
            return
        self._waiting.append(_Waiting(question.number, owner, tell))
        if len(self._waiting) == 1:
            self._defer(self._ids.wait_s, self._answer_waiting)

    def close(self) -> None:
        """Gives both sockets back."""
        self._conntrack.close()
        self._sock_diag.close()

    def _answer_waiting(self) -> None:
        """One look for all; who is unknown even now is in no unit of this host."""
        self._ids.look()
        waiting, self._waiting = self._waiting, []
        for number, owner, tell in waiting:
            tell(OwnerAnswer(number, owner.uid, self._ids.try_unit(owner.cgroup_id) or ""))

    def _find(self, reply: Flow) -> sock_diag.Owner:
        original = conntrack.find_original(self._conntrack, reply)
        row = sock_diag.find_row(self._sock_diag, original) if original else None
        return sock_diag.believe(row) if row else sock_diag.NOBODY
