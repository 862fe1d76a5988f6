"""Answers a worker's question whose a redirected connection is: conntrack, then sock_diag, then the cgroup tree."""

from collections.abc import Callable
from pathlib import Path

from nodeagent import limits
from nodeagent.observe.log import open_log
from nodeagent.process import conntrack, sock_diag
from nodeagent.process.cgroups import scan_ids
from nodeagent.process.conntrack import Flow
from nodeagent.process.netlink import NetlinkError, NetlinkSocket
from nodeagent.wire.requests import OwnerAnswer, OwnerQuestion

_log = open_log()


class CgroupIds:
    """cgroup id -> unit, looked at anew when an id is not known. Owned by the supervisor."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self._root = root
        self._clock = clock
        self._units: dict[int, str] = {}
        self._scanned_at = float("-inf")

    def unit_of(self, cgroup_id: int) -> str:
        """The unit; empty when the cgroup belongs to none, is gone, or is newer than a look within RESCAN_S."""
        if cgroup_id not in self._units and self._clock() - self._scanned_at >= limits.RESCAN_S:
            self._units = scan_ids(self._root)
            self._scanned_at = self._clock()
        return self._units.get(cgroup_id, "")


class OwnerFinder:
    """The two look-ups that need the supervisor's privilege. Owned by the supervisor.

    Whatever fails gives "unidentified": a wrong name would be worse than none.
    """

    def __init__(self, ids: CgroupIds) -> None:
        self._ids = ids
        self._conntrack = NetlinkSocket(conntrack.NETLINK_NETFILTER)
        self._sock_diag = NetlinkSocket(sock_diag.NETLINK_SOCK_DIAG)

    def find(self, question: OwnerQuestion) -> OwnerAnswer:
        """Who opened the connection that came from `peer` to our listener."""
        reply = Flow(question.listener_ip, question.listener_port, question.peer_ip, question.peer_port)
        try:
            owner = self._find(reply)
        except NetlinkError as error:
            _log.warning("owner_query_failed", error=str(error))
            owner = sock_diag.NOBODY
        unit = self._ids.unit_of(owner.cgroup_id) if owner.cgroup_id else ""
        return OwnerAnswer(question.number, owner.uid, unit)

    def close(self) -> None:
        """Gives both sockets back."""
        self._conntrack.close()
        self._sock_diag.close()

    def _find(self, reply: Flow) -> sock_diag.Owner:
        original = conntrack.find_original(self._conntrack, reply)
        row = sock_diag.find_row(self._sock_diag, original) if original else None
        return sock_diag.believe(row) if row else sock_diag.NOBODY
