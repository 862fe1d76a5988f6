"""One end of TCP connections that does what it is told: one JSON line in, one JSON line out, in order.

Usage: peer.py [PORT]: with a port it listens there, on both families. It knows nothing of the mesh and uses nothing of it.
A line is `[operation, connection, argument…]`; the answer is what the operation gave, or the name of the error.
"""

import errno
import hashlib
import json
import select
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

DEADLINE_S = 20.0
BACKLOG = 64
QUIET_S = 1.0
_RESET = struct.pack("ii", 1, 0)


class Ends:
    """The connections of this process by name, and the listener."""

    def __init__(self, port: int) -> None:
        self._socks: dict[str, socket.socket] = {}
        self._listener: socket.socket | None = None
        if port:
            self._listener = socket.create_server(
                ("::", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
            )
            self._listener.settimeout(DEADLINE_S)

    def connect(self, name: str, ip: str, port: int) -> str:
        self._socks[name] = socket.create_connection((ip, port), DEADLINE_S)
        return "connected"

    def accept(self, name: str) -> str:
        """The address of whoever called."""
        assert self._listener
        sock, peer = self._listener.accept()
        sock.settimeout(DEADLINE_S)
        self._socks[name] = sock
        return str(peer[0]).removeprefix("::ffff:")

    def nodelay(self, name: str) -> None:
        self._socks[name].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, name: str, text: str) -> int:
        self._socks[name].sendall(text.encode())
        return len(text)

    def send_many(self, name: str, text: str, times: int) -> list[Any]:
        """The text so often, in one call: bytes and their digest."""
        data = text.encode() * times
        self._socks[name].sendall(data)
        return [len(data), _digest(data)]

    def dribble(self, name: str, text: str) -> int:
        """A system call for each byte."""
        return sum(self._socks[name].send(byte.encode()) for byte in text)

    def fill(self, name: str, text: str) -> list[Any]:
        """Sends the text over and over until nothing is taken any more: bytes and their digest."""
        sock, block, sent, digest = self._socks[name], text.encode() * 1000, 0, hashlib.blake2b()
        while select.select([], [sock], [], QUIET_S)[1]:
            sock.setblocking(False)
            count = sock.send(block[sent % len(block) :])
            digest.update(block[sent % len(block) :][:count])
            sent += count
        sock.settimeout(DEADLINE_S)
        return [sent, digest.hexdigest()]

    def send_until_refused(self, name: str, text: str) -> str:
        """Sends until the kernel says that the other side is gone: the error."""
        while True:
            try:
                self._socks[name].sendall(text.encode())
                select.select([self._socks[name]], [], [], 0.01)
            except OSError as error:
                return _name(error)

    def recv(self, name: str, size: int) -> str:
        """Exactly so many bytes; fewer are followed by how it ended."""
        data = b""
        while len(data) < size:
            try:
                more = self._socks[name].recv(size - len(data))
            except OSError as error:
                return f"{data.decode()}<{_name(error)}>"
            if not more:
                return f"{data.decode()}<EOF>"
            data += more
        return data.decode()

    def drain(self, name: str, piece: int = 65536) -> list[Any]:
        """All there is, in reads of `piece`: bytes, their digest, how it ended."""
        count, digest = 0, hashlib.blake2b()
        while True:
            try:
                data = self._socks[name].recv(piece)
            except OSError as error:
                return [count, digest.hexdigest(), _name(error)]
            if not data:
                return [count, digest.hexdigest(), "EOF"]
            count += len(data)
            digest.update(data)

    def wait(self, name: str) -> str:
        """Until something has arrived; it stays unread."""
        return "readable" if select.select([self._socks[name]], [], [], DEADLINE_S)[0] else "ETIMEDOUT"

    def ping(self, name: str, text: str) -> str:
        """Sends each character when the one before has come back."""
        return "".join(self.recv(name, 1) for each in text if self.send(name, each))

    def echo(self, name: str) -> str:
        """Sends back what comes until the end: how it ended."""
        while True:
            try:
                data = self._socks[name].recv(65536)
            except OSError as error:
                return _name(error)
            if not data:
                return "EOF"
            self._socks[name].sendall(data)

    def shut(self, name: str) -> None:
        self._socks[name].shutdown(socket.SHUT_WR)

    def close(self, name: str) -> None:
        self._socks.pop(name).close()

    def leave(self, name: str, text: str, times: int) -> int:
        """Sends the text so often and closes in the same breath."""
        size, _ = self.send_many(name, text, times)
        self.close(name)
        return int(size)

    def reset(self, name: str) -> None:
        self._socks[name].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close(name)


def main() -> None:
    """Serves operations until standard input ends."""
    ends = Ends(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        operation, *arguments = json.loads(line)
        print(json.dumps(_outcome(getattr(ends, operation), arguments)), flush=True)


def _outcome(operation: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        return operation(*arguments)
    except OSError as error:
        return _name(error)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data).hexdigest()


def _name(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "ETIMEDOUT"
    return errno.errorcode.get(error.errno or 0, str(error))


if __name__ == "__main__":
    main()
