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
import time
from collections.abc import Callable
from typing import Any

DEADLINE_S = 20.0
BACKLOG = 64
QUIET_S = 1.0
PAUSE_S = 0.02
LITTLE = 4096
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

    def ask(self, name: str, ip: str, port: int) -> None:
        """Begins to connect; `is_connected` tells when it is done."""
        sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
        sock.setblocking(False)
        sock.connect_ex((ip, port))
        self._socks[name] = sock

    def is_connected(self, name: str, wait_s: float = DEADLINE_S) -> bool:
        """Whether the kernel says so within that time."""
        sock = self._socks[name]
        if not select.select([], [sock], [], wait_s)[1]:
            return False
        sock.settimeout(DEADLINE_S)
        return not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def connect_saying(self, name: str, ip: str, port: int, text: str) -> int:
        """Connects with the first bytes in its SYN, if the kernels agree (TCP Fast Open)."""
        self._socks[name] = sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
        return sock.sendto(text.encode(), socket.MSG_FASTOPEN, (ip, port))

    def queue(self, length: int) -> None:
        """From now on, so many connections and one wait to be accepted; more have to ask again."""
        assert self._listener
        self._listener.listen(length)

    def stop_listening(self) -> None:
        assert self._listener
        self._listener.close()

    def receive_little(self) -> None:
        """From now on, what is accepted has room for few bytes."""
        assert self._listener
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LITTLE)

    def send_little(self, name: str) -> None:
        """The same for what is to be sent."""
        self._socks[name].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LITTLE)

    def is_called(self) -> bool:
        """Waits until a connection can be accepted."""
        assert self._listener
        return bool(select.select([self._listener], [], [], DEADLINE_S)[0])

    def accept(self, name: str) -> str:
        """The address of whoever called."""
        assert self._listener
        sock, peer = self._listener.accept()
        sock.settimeout(DEADLINE_S)
        self._socks[name] = sock
        return str(peer[0]).removeprefix("::ffff:")

    def accept_broken(self, name: str) -> str:
        """What becomes of a connection that may have been reset before it was accepted: accept() says so, or recv()."""
        try:
            self.accept(name)
        except ConnectionAbortedError:
            return "<ECONNRESET>"
        return self.recv(name, 1)

    def places(self, name: str) -> list[list[Any]]:
        """[address, port] of this end, then of the other, as the kernel says here."""
        sock = self._socks[name]
        return [[ip.removeprefix("::ffff:"), port] for ip, port, *_ in (sock.getsockname(), sock.getpeername())]

    def segment(self, name: str) -> int:
        """Bytes of payload in a full packet."""
        return self._socks[name].getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)

    def urge(self, name: str, text: str) -> int:
        """Sends a byte out of band."""
        return self._socks[name].send(text.encode(), socket.MSG_OOB)

    def take_urgent_inline(self, name: str) -> None:
        """Bytes out of band are to come among the others."""
        self._socks[name].setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)

    def urgent(self, name: str) -> str:
        """The byte that came out of band; empty: there is none once ordinary bytes have come and a moment has passed."""
        sock = self._socks[name]
        self.wait(name)
        if not select.select([], [], [sock], QUIET_S)[2]:
            return ""
        return sock.recv(1, socket.MSG_OOB).decode()

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

    def trickle(self, name: str, text: str) -> int:
        """A byte now and then."""
        sent = 0
        for byte in text:
            time.sleep(PAUSE_S)
            sent += self.dribble(name, byte)
        return sent

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
