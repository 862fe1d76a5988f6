"""A Python application of HTTP/1.1 for the lab: plain sockets and threads, nothing of the agent. Run as a program: PORT [NAME].

/who answers with NAME, as does /bad, with 503 where NAME is bad; /echo answers with the body it got; /ws is an echo after 101; /once closes after each answer, unsaid; /slow answers before the body is
through; /busy?seconds takes its time, and /peak tells how many did at once, and forgets it; /trailers has some; /wait says nothing, and /waiting how many wait; /count counts what it got with ?number.
"""

import base64
import hashlib
import socket
import sys
import threading
import time

_COUNTS: dict[str, int] = {}
_WAITING = set()
_BUSY = {"now": 0, "peak": 0}
_LOCK = threading.Lock()


class Reader:
    """A socket's bytes."""

    def __init__(self, sock):
        self.sock, self.held = sock, b""

    def until(self, end):
        while end not in self.held:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.held += data
        found, _, self.held = self.held.partition(end)
        return found

    def exactly(self, size):
        parts, have = [self.held[:size]], min(size, len(self.held))
        self.held = self.held[size:]
        while have < size:
            data = self.sock.recv(min(size - have, 1 << 20))
            if not data:
                raise EOFError
            parts.append(data)
            have += len(data)
        return b"".join(parts)


def body_of(reader, fields):
    """Its digest, its length, and its trailers."""
    digest, size = hashlib.sha256(), 0
    if fields.get(b"transfer-encoding") != b"chunked":
        left = int(fields.get(b"content-length", b"0"))
        while left:
            piece = reader.exactly(min(left, 1 << 16))
            digest.update(piece)
            left -= len(piece)
            size += len(piece)
        return digest.hexdigest(), size, []
    while chunk := int(reader.until(b"\r\n").partition(b";")[0], 16):
        digest.update(reader.exactly(chunk))
        size += chunk
        reader.exactly(2)
    trailers = []
    while line := reader.until(b"\r\n"):
        trailers.append(line)
    return digest.hexdigest(), size, trailers


def serve(sock):
    reader = Reader(sock)
    try:
        while answer_one(sock, reader):
            pass
    except (EOFError, OSError, ValueError):
        pass
    finally:
        sock.close()


def answer_one(sock, reader):
    """Whether another request may come."""
    lines = reader.until(b"\r\n\r\n").split(b"\r\n")
    method, target, _ = lines[0].split(b" ")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    path, _, query = target.partition(b"?")
    if path in EARLY:
        EARLY[path](sock, reader, fields)
        return False
    if fields.get(b"expect") == b"100-continue":
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    digest, size, trailers = body_of(reader, fields)
    if method == b"HEAD":
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n")
    elif path in ANSWERS:
        ANSWERS[path](sock, query, trailers)
    else:
        send(sock, f"{size} {digest}".encode())
    return path != b"/once"


def slow(sock, _reader, _fields):
    send(sock, b"early")


def wait(sock, _reader, _fields):
    """Until the other side is gone; /waiting tells how many do."""
    _WAITING.add(sock)
    try:
        sock.recv(1)
    finally:
        _WAITING.discard(sock)


def waiting(sock, _query, _trailers):
    send(sock, b"%d" % len(_WAITING))


def busy(sock, query, _trailers):
    with _LOCK:
        _BUSY["now"] += 1
        _BUSY["peak"] = max(_BUSY["peak"], _BUSY["now"])
    time.sleep(float(query))
    with _LOCK:
        _BUSY["now"] -= 1
    send(sock, NAME)


def peak(sock, _query, _trailers):
    with _LOCK:
        told, _BUSY["peak"] = _BUSY["peak"], 0
    send(sock, b"%d" % told)


def count(sock, query, _trailers):
    with _LOCK:
        _COUNTS[query] = _COUNTS.get(query, 0) + 1
    send(sock, b"counted")


def counted(sock, _query, _trailers):
    with _LOCK:
        wrong = [number for number, times in _COUNTS.items() if times != 1]
    send(sock, f"{len(_COUNTS)} {len(wrong)}".encode())


def with_trailers(sock, _query, trailers):
    told = b"%d" % len(trailers)
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nX-After: yes\r\n\r\n" % (len(told), told))


def who(sock, _query, _trailers):
    send(sock, NAME)


def bad(sock, _query, _trailers):
    if NAME == b"bad":
        sock.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nbad")
    else:
        send(sock, NAME)


def same(sock, _query, _trailers):
    sock.sendall(b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n')


def long(sock, query, _trailers):
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % int(query))
    for _ in range(int(query) >> 16):
        sock.sendall(bytes(1 << 16))


def send(sock, body):
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def upgrade(sock, reader, fields):
    """An echo of bytes, framed by nobody: what matters is that they pass."""
    key = fields.get(b"sec-websocket-key", b"")
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    data = reader.held or sock.recv(65536)
    while data:
        sock.sendall(data)
        data = sock.recv(65536)


NAME = sys.argv[2].encode() if len(sys.argv) > 2 else b""
EARLY = {b"/ws": upgrade, b"/slow": slow, b"/wait": wait}
ANSWERS = {b"/busy": busy, b"/peak": peak, b"/count": count, b"/counted": counted, b"/trailers": with_trailers, b"/same": same, b"/waiting": waiting, b"/who": who, b"/bad": bad, b"/long": long}


def main():
    listener = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main()
