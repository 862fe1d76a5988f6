"""A server that gives back what it gets, for thousands of connections at once, and callers of it."""

import selectors
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Self

from tests.e2e.support.unit import DEADLINE_S, Unit


class Echo:
    """Serves a listener in a thread until the `with` block ends; a client's FIN is answered with a FIN."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._stop_read, self._stop_write = socket.socketpair()
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._run)
        self.accepted = 0
        self.resets = 0

    def __enter__(self) -> Self:
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._stop_read, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_write.close()
        self._thread.join(DEADLINE_S)
        for sock in (*self._open, self._stop_read):
            sock.close()
        self._selector.close()

    @property
    def open(self) -> int:
        """Connections that have not ended."""
        return len(self._open)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._stop_read:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._serve(key.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                self.accepted += 1
                self._open.add(sock)
                sock.settimeout(DEADLINE_S)
                self._selector.register(sock, selectors.EVENT_READ)

    def _serve(self, sock: socket.socket) -> None:
        data = b""
        try:
            data = sock.recv(65_536)
            sock.sendall(data)
        except OSError:
            self.resets += 1
        if not data:
            self._selector.unregister(sock)
            self._open.discard(sock)
            sock.close()


def speaks(sock: socket.socket, text: bytes = b"are you there?") -> bool:
    """Whether the other end gives `text` back; False after a reset or an end."""
    try:
        sock.sendall(text)
        return received(sock, len(text)) == text
    except ConnectionError:
        return False


def received(sock: socket.socket, count: int) -> bytes:
    """What comes until `count` bytes are there or the other end has finished."""
    got = b""
    while len(got) < count and (part := sock.recv(count - len(got))):
        got += part
    return got


def answers(caller: Unit, address: tuple[str, int], text: bytes, *, source_port: int = 0) -> bool:
    """Whether a new call is echoed; a refusal or reset, in `connect` or later, is none."""
    with suppress(ConnectionError), caller.connect(*address, source_port=source_port) as sock:
        return speaks(sock, text)
    return False


def connect_all(sockets: Iterable[socket.socket], address: tuple[str, int]) -> None:
    """Connects all at once: every SYN is out before the first answer is looked at."""
    waiting = list(sockets)
    for sock in waiting:
        sock.setblocking(False)
        sock.connect_ex(address)
    for sock in waiting:
        sock.settimeout(DEADLINE_S)
