"""An application of HTTP/1.1 that is killed and begins again, and writes down what it got before it answers. Run as a program: PORT FILE.

Each request's number (its query) is a line of FILE when its answer is said; FILE.pid has the process that serves now.
"""

import os
import socket
import sys
import threading
import time
from pathlib import Path

AWAY_S = 0.2


def serve(sock, ledger):
    held = b""
    try:
        while data := sock.recv(65536):
            held += data
            while b"\r\n\r\n" in held:
                head, _, held = held.partition(b"\r\n\r\n")
                number = head.split(b" ", 2)[1].partition(b"?")[2]
                os.write(ledger, number + b"\n")
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(number), number))
    except OSError:
        pass
    finally:
        sock.close()


def listen(port, file):
    ledger = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    with socket.create_server(("0.0.0.0", port), backlog=512) as server:
        Path(f"{file}.pid").write_text(str(os.getpid()))
        while True:
            threading.Thread(target=serve, args=(server.accept()[0], ledger), daemon=True).start()


def main(port, file):
    while True:
        child = os.fork()
        if not child:
            listen(port, file)
        os.waitpid(child, 0)
        time.sleep(AWAY_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
