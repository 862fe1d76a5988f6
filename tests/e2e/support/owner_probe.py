"""Redirected connections of many shapes in one host, and what OwnerFinder says of each. Runs inside the host; prints JSON.

Usage: owner_probe.py CGROUP_ROOT: below it, `system.slice/shop.service` and others exist.
"""

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nodeagent.process import conntrack, sock_diag
from nodeagent.process.netlink import NetlinkSocket
from nodeagent.process.owner import CgroupIds, OwnerFinder
from nodeagent.wire.requests import OwnerAnswer, OwnerQuestion
from redirect.ctnetlink import NETFILTER

REMOTE, REMOTE6, OWN = "10.90.1.2", "fd90::2", "10.90.1.1"
PORTS = (80, 81)
RULES = (
    "table inet probe { chain o { type nat hook output priority -101; tcp dport { 80, 81 } redirect to :15001; }\n}\n"
)


class Client:
    """A process in a cgroup, with a uid, that does one thing and waits until it is told to end. Owned by the probe."""

    def __init__(self, cgroup: Path, uid: int, act: Callable[[], object]) -> None:
        self._hold, hold = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(hold)
            (cgroup / "cgroup.procs").write_text("0")
            os.setgid(uid)
            os.setuid(uid)
            kept = act()
            os.read(self._hold, 1)
            del kept
            os._exit(0)
        os.close(self._hold)
        self._hold = hold

    def end(self) -> None:
        """Ends the process and reaps it."""
        os.close(self._hold)
        os.waitpid(self.pid, 0)


class Probe:
    """Listeners where redirected connections arrive, and the finder. Owned by `main`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listeners = {4: _listen(socket.AF_INET, "127.0.0.1"), 6: _listen(socket.AF_INET6, "::1")}
        self._finder = OwnerFinder(CgroupIds(root, time.monotonic), _later)

    @contextmanager
    def connected(self, unit: str, uid: int, act: Callable[[], object], family: int = 4) -> Iterator[socket.socket]:
        """The agent's end of the connection that `act` makes in that unit."""
        client = Client(self.root / unit, uid, act)
        try:
            with self._listeners[family].accept()[0] as accepted:
                yield accepted
        finally:
            client.end()

    def ask(self, accepted: socket.socket) -> OwnerAnswer:
        """What the supervisor would answer about an accepted connection."""
        return self.find(OwnerQuestion(1, *_packed(accepted.getpeername()), *_packed(accepted.getsockname())))

    def find(self, question: OwnerQuestion) -> OwnerAnswer:
        """What the supervisor would answer."""
        told: list[OwnerAnswer] = []
        self._finder.find(question, told.append)
        return told[0]

    def who(self, unit: str, uid: int, act: Callable[[], object], family: int = 4) -> tuple[int, str]:
        """(uid, unit) found for the connection."""
        with self.connected(unit, uid, act, family) as accepted:
            return self.ask(accepted)[1:3]


def main(root: Path) -> dict[str, object]:
    """All shapes: name -> (uid, unit)."""
    subprocess.run(["nft", "-f", "-"], input=RULES, text=True, check=True)
    probe = Probe(root)
    shop, web = "system.slice/shop.service", "system.slice/web.service"
    return {
        "v4": probe.who(shop, 2001, lambda: socket.create_connection((REMOTE, 80))),
        "v6": probe.who(shop, 2001, lambda: socket.create_connection((REMOTE6, 80)), 6),
        "mapped": probe.who(web, 2002, _connect_mapped),
        "nested": probe.who(f"{shop}/worker/3", 2001, lambda: socket.create_connection((REMOTE, 80))),
        "user_slice": probe.who(
            "user.slice/user-1000.slice/user@1000.service/app.slice/web.service",
            1000,
            lambda: socket.create_connection((REMOTE, 80)),
        ),
        "half_closed": probe.who(shop, 2001, _half_close),
        "rewritten": _rewritten(probe),
        "orphan": _orphan(probe),
        "time_wait": _time_wait(probe),
        "alien": probe.find(OwnerQuestion(1, b"\x0a\x5a\x01\x01", 1, b"\x7f\0\0\1", 15001))[1:3],
        "listener": _row_of_listener(),
    }


def _rewritten(probe: Probe) -> object:
    """Two units use one source port towards two destinations: REDIRECT gives the second another port."""
    shop, web = "system.slice/shop.service", "system.slice/web.service"
    with (
        probe.connected(shop, 2001, lambda: _connect_from(40_000, 80)) as first,
        probe.connected(web, 2002, lambda: _connect_from(40_000, 81)) as second,
    ):
        ports = [accepted.getpeername()[1] for accepted in (first, second)]
        return {"ports": ports, "first": probe.ask(first)[1:3], "second": probe.ask(second)[1:3]}


def _orphan(probe: Probe) -> tuple[int, str]:
    """Connects, sends, closes and ends; asked when its FIN has come."""
    with probe.connected("system.slice/shop.service", 2001, _send_and_close) as accepted:
        poller = select.poll()
        poller.register(accepted, select.POLLRDHUP)
        poller.poll()
        return probe.ask(accepted)[1:3]


def _time_wait(probe: Probe) -> object:
    """A row that is only remembered names nobody, although its uid says 0."""
    with probe.connected("system.slice/shop.service", 2001, _send_and_close) as accepted:
        reply = conntrack.Flow(*_packed(accepted.getsockname()), *_packed(accepted.getpeername()))
        netlink, diag = NetlinkSocket(NETFILTER), NetlinkSocket(sock_diag.NETLINK_SOCK_DIAG)
        original = conntrack.find_original(netlink, reply)
        assert original
        while accepted.recv(100):
            pass
        while (row := sock_diag.find_row(diag, original)) and row.cgroup_id:
            time.sleep(0.01)
        return {"row": row, "answer": probe.ask(accepted)[1:3]}


def _row_of_listener() -> object:
    """The kernel offers a listening socket where no connection matches; its addresses are not those asked for."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        flow = conntrack.Flow(b"\x7f\0\0\1", server.getsockname()[1], b"\x7f\0\0\1", 9)
        return sock_diag.find_row(NetlinkSocket(sock_diag.NETLINK_SOCK_DIAG), flow)


def _connect_mapped() -> socket.socket:
    sock = socket.socket(socket.AF_INET6)
    sock.connect((f"::ffff:{REMOTE}", 80))
    return sock


def _connect_from(port: int, destination: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((OWN, port))
    sock.connect((REMOTE, destination))
    return sock


def _half_close() -> socket.socket:
    sock = socket.create_connection((REMOTE, 80))
    sock.sendall(b"x")
    sock.shutdown(socket.SHUT_WR)
    return sock


def _send_and_close() -> None:
    with socket.create_connection((REMOTE, 80)) as sock:
        sock.sendall(b"x")


def _later(seconds: float, act: Callable[[], None]) -> None:
    """As a loop would, for a program without one."""
    time.sleep(seconds)
    act()


def _listen(family: socket.AddressFamily, ip: str) -> socket.socket:
    return socket.create_server((ip, 15001), family=family)


def _packed(address: tuple[str, int]) -> tuple[bytes, int]:
    ip, port = address[:2]
    return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip), port


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1])), sys.stdout)
