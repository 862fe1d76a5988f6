"""A storm of short connections, and who takes them. Each connection says who it is by the length of its one line.

Runs inside a host; prints JSON.
Usage: storm.py serve: with JSON on standard input, a list of [address, port]. Answers each line with itself; prints "ready",
         and at the end of its input how many lines of which length came to which port: rows of [port, length, count].
       storm.py call: with the JSON of an Order on standard input, `borrow` being a descriptor that it has inherited. Prints
         how the connections ended: rows of [number of the target, length, end, count].
A caller is root, so that it may enter cgroups, make them anew as a restart does, forge marks and make sockets as any user.
"""

import errno
import json
import os
import random
import resource
import select
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

AT_ONCE = 24
BATCH = 48
"""Sockets that are made at once, some of them before a restart and connected after it."""
DEADLINE_S = 30.0
IN_USE = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
_RESET = struct.pack("ii", 1, 0)
_SO_MARK = 36


@dataclass(frozen=True)
class Order:
    """What one caller is to do."""

    cgroup: str
    """The directory of the unit that it calls from."""
    lines: list[tuple[int, int, list[int]]]
    """Of each of its users: uid, length of the line that says whose its sockets are, numbers of the targets that it calls."""
    targets: list[tuple[str, int]]
    count: int
    ports: tuple[int, int]
    """Source ports that all callers share; every fourth connection leaves the choice to the kernel."""
    seed: int
    restart_every: int = 0
    marks: list[int] = field(default_factory=list)
    """To be forged, one after the other."""
    borrow: int = -1
    """Where sockets of another unit are to be had, as from `Unit`; -1: its own."""


class Caller:
    """Makes the connections of one order, some at once. Owned by `main`."""

    def __init__(self, order: Order) -> None:
        self.ends: Counter[tuple[int, int, str]] = Counter()
        self._order = order
        self._dice = random.Random(order.seed)
        self._poller = select.epoll()
        self._open: dict[int, _Call] = {}
        self._made = 0
        self._lender = socket.socket(fileno=order.borrow) if order.borrow >= 0 else None
        if self._lender:
            self._lender.settimeout(DEADLINE_S)  # it is shared with whoever passed it on

    def run(self) -> None:
        """All of them."""
        sockets = self._sockets()
        while self._made < self._order.count:
            while self._made < self._order.count and len(self._open) < AT_ONCE:
                self._start(*next(sockets))
            self._turn()
        while self._open:
            self._turn()

    def _sockets(self) -> Iterator[tuple[socket.socket, int, int]]:
        """(socket, length of its line, target), without end; a batch is half used when the unit is restarted."""
        restart_at = self._order.restart_every
        while True:
            batch = [each for user in self._order.lines for each in self._batch(*user)]
            self._dice.shuffle(batch)
            for index, each in enumerate(batch):
                if index == len(batch) // 2 and restart_at and self._made >= restart_at:
                    restart_at += self._order.restart_every
                    restart(Path(self._order.cgroup))
                yield each

    def _batch(self, uid: int, line: int, targets: list[int]) -> list[tuple[socket.socket, int, int]]:
        chosen = self._dice.choices(targets, k=BATCH // len(self._order.lines))
        os.seteuid(uid)
        made = [(self._socket(6 if ":" in self._order.targets[target][0] else 4), line, target) for target in chosen]
        os.seteuid(0)
        return made

    def _socket(self, family: int) -> socket.socket:
        if self._lender is None:
            return socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET)
        self._lender.send(bytes((family, 1)))
        return socket.socket(fileno=socket.recv_fds(self._lender, 1, 1)[1][0])

    def _start(self, sock: socket.socket, line: int, target: int) -> None:
        """One connection; where its tuple is in use it is none."""
        order = self._order
        sock.setblocking(False)
        if order.marks:
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, order.marks[self._made % len(order.marks)])
        try:
            if self._made % 4:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("", self._dice.randrange(*order.ports)))
            sock.connect(tuple(order.targets[target]))
        except BlockingIOError:
            pass
        except OSError as error:
            sock.close()
            if error.errno not in IN_USE:
                raise
            self.ends[target, line, "in_use"] += 1
            return
        how = ("ask", "ask", "ask", "leave", "reset")[self._made % 5]
        self._made += 1
        self._open[sock.fileno()] = _Call(sock, target, line, how)
        self._poller.register(sock, select.EPOLLOUT)

    def _turn(self) -> None:
        ready = self._poller.poll(DEADLINE_S)
        if not ready:
            for call in list(self._open.values()):
                self._end(call, "silent")
        for fd, _ in ready:
            call = self._open[fd]
            end = call.answered() if call.is_connected else self._say(call)
            if end:
                self._end(call, end)

    def _say(self, call: "_Call") -> str:
        end = call.say()
        if not end:
            self._poller.modify(call.sock, select.EPOLLIN)
        return end

    def _end(self, call: "_Call", end: str) -> None:
        del self._open[call.sock.fileno()]
        self._poller.unregister(call.sock)  # closing does not, as long as a lender has the socket too
        if call.how == "reset":
            call.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        call.sock.close()
        self.ends[call.target, call.line, end] += 1


class _Call:
    """One connection: says its line; then, unless it leaves at once, waits for it to come back."""

    def __init__(self, sock: socket.socket, target: int, line: int, how: str) -> None:
        self.sock, self.target, self.line, self.how = sock, target, line, how
        self.is_connected = False
        self._got = b""

    def say(self) -> str:
        """How it ended; empty: not yet."""
        self.is_connected = True
        try:
            self.sock.sendall(b"." * (self.line - 1) + b"\n")
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "left" if self.how == "leave" else ""

    def answered(self) -> str:
        """How it ended; empty: not yet."""
        try:
            part = self.sock.recv(4096)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        self._got += part
        return "answered" if len(self._got) == self.line else "" if part else "closed"


def restart(unit: Path) -> None:
    """The unit has a new cgroup under its old path, as after a restart; its sockets so far are of one that is gone."""
    enter(unit.parent)
    unit.rmdir()
    unit.mkdir()
    enter(unit)


def enter(cgroup: Path) -> None:
    """Moves this process."""
    (cgroup / "cgroup.procs").write_text("0")


def call() -> None:
    """Does what standard input says."""
    order = Order(**json.load(sys.stdin))
    Path(order.cgroup).mkdir(parents=True, exist_ok=True)
    enter(Path(order.cgroup))
    caller = Caller(order)
    caller.run()
    json.dump([[*key, count] for key, count in caller.ends.items()], sys.stdout)


def serve() -> None:
    """Until its input ends."""
    came: Counter[tuple[int, int]] = Counter()
    poller, listeners, open_ = select.epoll(), {}, {}
    for address, port in json.loads(sys.stdin.readline()):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, backlog=4096)
        listeners[listener.fileno()] = listener
        poller.register(listener, select.EPOLLIN)
    poller.register(sys.stdin, select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for fd, _ in poller.poll():
            if fd == sys.stdin.fileno():
                json.dump([[*key, count] for key, count in came.items()], sys.stdout)
                return
            if fd in listeners:
                sock = listeners[fd].accept()[0]
                open_[sock.fileno()] = sock
                poller.register(sock, select.EPOLLIN)
            elif not _served(open_[fd], came):
                open_.pop(fd).close()


def _served(sock: socket.socket, came: Counter[tuple[int, int]]) -> bool:
    """Whether there may be more. A line is so short that it comes in one piece."""
    try:
        data = sock.recv(4096)
        if data:
            assert data.endswith(b"\n")
            came[sock.getsockname()[1], len(data)] += 1
            sock.sendall(data)
    except OSError:
        return False
    return bool(data)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    {"call": call, "serve": serve}[sys.argv[1]]()
