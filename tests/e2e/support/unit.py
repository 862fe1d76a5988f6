"""Sockets of a unit of a lab's host, in the hands of the test: both ends of a connection under one control.

A socket belongs for ever to the network, the unit and the user in which it was made, whoever holds it afterwards.
"""

import selectors
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Self

from nodeagent.lab.lab import Lab

DEADLINE_S = 20.0
_AT_ONCE = 200  # descriptors in one message; the kernel takes 253
_RESET = struct.pack("ii", 1, 0)
_MAKER = """
import array, socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))
while order := channel.recv(2):
    made = [socket.socket(socket.AF_INET6 if order[0] == 6 else socket.AF_INET) for _ in range(order[1])]
    rights = array.array("i", [each.fileno() for each in made])
    channel.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    for each in made:
        each.close()
"""


class Unit:
    """A process in SERVICE.service on a host (without a service: in none) that makes sockets. Ends with its `with`."""

    def __init__(self, lab: Lab, host: str, service: str = "", *, user: str = "") -> None:
        self._stack = ExitStack()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = self._stack.enter_context(ours)
        ours.settimeout(DEADLINE_S)
        command = [sys.executable, "-IS", "-c", _MAKER, str(theirs.fileno())]
        with theirs:
            self._maker = lab.popen(host, command, service=service, user=user, pass_fds=[theirs.fileno()])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()  # its channel too, which ends the maker
        self._maker.wait(DEADLINE_S)

    def sockets(self, count: int, family: int = 4) -> list[socket.socket]:
        """Blocking TCP sockets with a deadline, closed with the unit."""
        made: list[socket.socket] = []
        while len(made) < count:
            self._channel.send(bytes((family, min(_AT_ONCE, count - len(made)))))
            _, descriptors, _, _ = socket.recv_fds(self._channel, 1, _AT_ONCE)
            made += [socket.socket(fileno=descriptor) for descriptor in descriptors]
        for each in made:
            self._stack.enter_context(each)
            each.settimeout(DEADLINE_S)
        return made

    def connect(self, address: str, port: int, *, source_port: int = 0) -> socket.socket:
        """A connection of this unit.

        Raises:
            OSError: it was refused or reset at once.
        """
        (sock,) = self.sockets(1, 6 if ":" in address else 4)
        if source_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", source_port))
        sock.connect((address, port))
        return sock

    def listen(self, address: str, port: int) -> socket.socket:
        """A listener of this unit."""
        (sock,) = self.sockets(1, 6 if ":" in address else 4)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(4096)
        return sock

    def accept(self, listener: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
        """The next connection, closed with the unit, and where it comes from."""
        sock, peer = listener.accept()
        self._stack.enter_context(sock)
        sock.settimeout(DEADLINE_S)
        return sock, (peer[0], peer[1])


def reset(sock: socket.socket) -> None:
    """Closes with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def receive(sock: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes, or fewer if the other end has finished.

    Raises:
        OSError: reset, or silent for too long.
    """
    parts, missing = [], count
    while missing and (part := sock.recv(min(missing, 1 << 20))):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def fill(sock: socket.socket, piece: bytes, at_most: int = 1 << 26) -> int:
    """Bytes written, in whole repetitions of `piece` but for the last, until nobody takes more for half a second."""
    sent = 0
    sock.settimeout(0.5)
    try:
        while sent < at_most:
            sent += sock.send(piece[sent % len(piece) :])
    except TimeoutError:
        return sent
    finally:
        sock.settimeout(DEADLINE_S)
    raise AssertionError(f"{sent} bytes were taken, and nobody reads them")


def fill_all(sockets: Iterable[socket.socket]) -> None:
    """Writes zeros to all of them until none takes more for half a second."""
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_WRITE)
        while ready := selector.select(0.5):
            for key, _ in ready:
                with suppress(BlockingIOError):
                    key.fileobj.send(bytes(65_536))  # type: ignore[union-attr]
        for key in selector.get_map().values():
            key.fileobj.settimeout(DEADLINE_S)  # type: ignore[union-attr]


def is_reset(sock: socket.socket) -> bool:
    """Whether the connection ends with RST; waits for its end, and forgets what came before."""
    try:
        while sock.recv(1 << 20):
            pass
    except ConnectionResetError:
        return True
    return False
