"""What connection tracking remembers of redirected connections that have ended.

An entry outlives its connection by two minutes. While no rules follow packets, nobody sees that a new connection has taken
the same ports: with the next rules it would be redirected in its midst, and reset.
"""

import socket
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from redirect.ctnetlink import DELETE, GET, ID, NETFILTER, ORIGINAL, decode_entry, encode_name
from redirect.flow import Flow, ends_of
from redirect.netlink import ask, encode_attribute, open_netlink, order
from redirect.sockets import read_rows

LOOK_S = 1.0  # 16,000 sockets take half of it on a busy machine; the supervisor does nothing else meanwhile
_LOOPBACK = (socket.inet_pton(socket.AF_INET, "127.0.0.1"), socket.inet_pton(socket.AF_INET6, "::1"))
"""Where what a host sends is redirected to."""
_CLOSE_WAIT, _LISTEN = 8, 10  # states by the kernel's numbers
_LEFT_ALONE = (_CLOSE_WAIT, _LISTEN)
"""A listener has no other end. Who waits to close may be a caller whose agent has closed: what it writes is reset, and not sent in clear."""
_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")


def forget_redirected(ports: Collection[int]) -> int:
    """Has the kernel forget what was redirected to one of these ports, where another connection has its place now; how many that were.

    It looks for each socket that is open, as there are fewer of them than entries, and other entries do no harm. Not for longer
    than LOOK_S: rules wait for it.

    Raises:
        OSError: the kernel refused; it may have no ctnetlink.
    """
    if not _is_any_tracked():
        return 0
    until = time.monotonic() + LOOK_S
    state_of = {ends_of(row): row[1] for row in read_rows()}
    ours = {flow for flow in state_of if flow.sport in ports}
    theirs = (flow for flow, state in state_of.items() if flow not in ours and state not in _LEFT_ALONE)
    asked = (flow for flow in theirs if time.monotonic() < until)
    with open_netlink(NETFILTER) as sock:
        return sum(_forget(sock, flow, ports, ours) for flow in asked)


def _is_any_tracked() -> bool:
    try:
        return _COUNT.read_text(encoding="ascii").strip() != "0"
    except OSError:  # conntrack is not loaded
        return False


def _forget(sock: socket.socket, flow: Flow, ports: Collection[int], ours: Collection[Flow]) -> bool:
    name = encode_name(ORIGINAL, flow)
    entry = ask(sock, GET, name)
    number = find_stale(entry, flow, ports, ours) if entry else b""
    if not number:
        return False
    with suppress(FileNotFoundError):  # it has just gone
        order(sock, DELETE, name + encode_attribute(ID, number))
    return True


def find_stale(entry: bytes, flow: Flow, ports: Collection[int], ours: Collection[Flow]) -> bytes:
    """The number of the entry if it redirects what goes this way, to one of these ports and for none of `ours`; empty: it does not."""
    original, reply, number = decode_entry(entry)
    is_stale = original == flow and reply and reply.src in _LOOPBACK and reply.sport in ports and reply not in ours
    return number if is_stale else b""
