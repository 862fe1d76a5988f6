"""Sends and receives a given number of bytes at once over one connection, and prints the digests of both as JSON.

Usage: bulk.py serve PORT BYTES CANARY   (one connection; prints "ready" first)
       bulk.py call IP PORT BYTES CANARY
The canary is in every 64 bytes, so that even the beginning of a packet shows it; the blocks differ by a counter.
"""

import hashlib
import json
import os
import socket
import sys
import threading
import time

BLOCK = 1 << 20
PERIOD = 64
DEADLINE_S = 240


def send(sock: socket.socket, size: int, canary: bytes, result: dict[str, object]) -> None:
    """Sends `size` bytes and ends this direction."""
    piece = canary + os.urandom(PERIOD - len(canary))
    block, digest = bytearray(piece * (BLOCK // PERIOD)), hashlib.blake2b()
    for number in range(size // BLOCK):
        block[PERIOD - 8 : PERIOD] = number.to_bytes(8, "big")
        digest.update(block)
        sock.sendall(block)
    sock.shutdown(socket.SHUT_WR)
    result["sent"] = digest.hexdigest()


def receive(sock: socket.socket, result: dict[str, object]) -> None:
    """Receives until the end."""
    buffer, digest, count = bytearray(BLOCK), hashlib.blake2b(), 0
    view = memoryview(buffer)
    while size := sock.recv_into(buffer):
        digest.update(view[:size])
        count += size
    result["received"], result["bytes"] = digest.hexdigest(), count


def main(role: str, *arguments: str) -> None:
    """Both directions at once."""
    *where, size, canary = arguments
    result: dict[str, object] = {}
    with _connected(role, where) as sock:
        sock.settimeout(DEADLINE_S)
        began = time.monotonic()
        sender = threading.Thread(target=send, args=(sock, int(size), canary.encode(), result))
        sender.start()
        receive(sock, result)
        sender.join()
    result["seconds"] = round(time.monotonic() - began, 2)
    print(json.dumps(result), flush=True)


def _connected(role: str, where: list[str]) -> socket.socket:
    if role == "call":
        return socket.create_connection((where[0], int(where[1])), 20)
    with socket.create_server(("::", int(where[0])), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        listener.settimeout(DEADLINE_S)
        print("ready", flush=True)
        return listener.accept()[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
