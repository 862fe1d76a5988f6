"""Which workload opened a captured connection: the mark that its SYN was stamped with, else the supervisor's look-up.

Never the peer's port alone: REDIRECT rewrites source ports, and another workload may hold the same number.
"""

import socket
from typing import Any

from nodeagent.model.snapshot import Snapshot
from nodeagent.model.workload import NOBODY, SelectorKind, Workload
from nodeagent.proxy.supervisor import SupervisorChannel

SO_MARK = 36
_CONNECTED = (1, 8)  # Linux, include/net/tcp_states.h: TCP_ESTABLISHED, TCP_CLOSE_WAIT


def stamped(sock: Any, units: dict[int, str]) -> Workload:
    """The workload whose mark the connection carries; nobody if it has none that is known."""
    unit = units.get(sock.getsockopt(socket.SOL_SOCKET, SO_MARK), "")
    return Workload(unit=unit, how="stamp") if unit else NOBODY


async def find_workload(
    sock: Any, units: dict[int, str], snapshot: Snapshot, supervisor: SupervisorChannel
) -> Workload:
    """The workload behind a captured connection, as surely as the kernel knows it.

    The supervisor is asked where the mark says nothing, or where a rule by uid comes first: who a process is must not
    depend on whether its connection was stamped in time. Where such a rule comes first and the uid cannot be learned, for
    the client has closed already or the supervisor is busy, it is nobody: the rule may be meant for it. The same holds for
    a rule by unit and a process whose unit nobody can tell.
    """
    workload = stamped(sock, units)
    if workload is not NOBODY and not _does_matter(snapshot, workload, "unix:uid"):
        return workload
    answer = await supervisor.owner(_packed(sock.getpeername()), _packed(sock.getsockname()))
    if _is_connected(sock) and (answer.unit or answer.uid >= 0):
        workload = Workload(unit=answer.unit or workload.unit, uid=answer.uid, how="conntrack")
    if workload.uid < 0 and _does_matter(snapshot, workload, "unix:uid"):
        return NOBODY
    is_unit_known = bool(workload.unit) or answer.knows_unit
    return workload if is_unit_known or not _does_matter(snapshot, workload, "systemd:id") else NOBODY


def _does_matter(snapshot: Snapshot, workload: Workload, kind: SelectorKind) -> bool:
    """Whether a rule of this kind stands before the first that knows the workload."""
    for rule in snapshot.mesh.workloads:
        if rule.selector.kind == kind:
            return True
        if rule.selector.matches(workload):
            return False
    return False


def _is_connected(sock: Any) -> bool:
    """Whether the connection is still the one that was asked about: after a reset, another may have its ports."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _CONNECTED
    except (OSError, ValueError):  # closed while the supervisor looked
        return False


def _packed(address: Any) -> tuple[bytes, int]:
    ip, port = address[0].partition("%")[0], address[1]  # of a link-local caller the kernel names the interface
    return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip), port
