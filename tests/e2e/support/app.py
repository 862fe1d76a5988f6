"""An application in the hands of the test: answers line by line and remembers what it heard, from whom."""

import selectors
import socket
import threading
from contextlib import ExitStack
from typing import Self

from nodeagent.lab.lab import Lab
from tests.e2e.support.unit import Unit

DEADLINE_S = 20.0


class App:
    """SERVICE on a host, on both families, registered; serves in a thread until the `with` block ends."""

    def __init__(self, lab: Lab, host: str, service: str, port: int) -> None:
        self.heard: list[tuple[str, str]] = []
        """(line, address of the caller)."""
        self.ports: dict[str, int] = {}
        """Line -> port that it came from."""
        self._lab, self._host, self._service, self._port = lab, host, service, port
        self._stack = ExitStack()
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[socket.socket, bytes] = {}
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        unit = self._stack.enter_context(Unit(self._lab, self._host, self._service))
        self._stack.callback(self._selector.close)
        read, write = socket.socketpair()
        self._stack.enter_context(read)
        self._selector.register(read, selectors.EVENT_READ, "stop")
        place = self._lab.host(self._host)
        for address in (place.ipv4, place.ipv6):
            listener = unit.listen(address, self._port)
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, "listener")
        self._stack.callback(self._close_connections)
        self._thread.start()
        self._stack.callback(self._thread.join, DEADLINE_S)
        self._stack.enter_context(write)
        self._lab.register(self._host, self._service, self._port)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def lines(self) -> list[str]:
        """What was heard."""
        return [line for line, _ in self.heard]

    @property
    def open(self) -> int:
        """Connections that have not ended."""
        return len(self._buffers)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data == "stop":
                    return
                assert isinstance(key.fileobj, socket.socket)
                if key.data == "listener":
                    self._accept(key.fileobj)
                elif not self._serve(key.fileobj, key.data):
                    self._selector.unregister(key.fileobj)
                    del self._buffers[key.fileobj]
                    key.fileobj.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, peer = listener.accept()
        except OSError:  # reset while it waited
            return
        sock.settimeout(DEADLINE_S)
        self._buffers[sock] = b""
        self._selector.register(sock, selectors.EVENT_READ, peer)

    def _serve(self, sock: socket.socket, peer: tuple[str, int]) -> bool:
        """Whether there may be more."""
        try:
            data = sock.recv(65_536)
            *lines, self._buffers[sock] = (self._buffers[sock] + data).split(b"\n")
            for line in lines:
                self.heard.append((line.decode(), peer[0]))
                self.ports[line.decode()] = peer[1]
                sock.sendall(b"app:" + line + b"\n")
        except OSError:
            return False
        return bool(data)

    def _close_connections(self) -> None:
        for sock in self._buffers:
            sock.close()
