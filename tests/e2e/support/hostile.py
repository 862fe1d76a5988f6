"""What a worker that was taken over could do: this program confines itself as a worker is, and tries. Prints JSON."""

import ctypes
import errno
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from nodeagent.process.privileges import User
from nodeagent.process.spawner import _confine

_libc = ctypes.CDLL(None, use_errno=True)
_WORKER = User(64902, 64902)
_PARENT = os.getppid()


def main() -> None:
    """Tries everything and prints name -> errno name, or "worked"."""
    _confine(_WORKER)
    results = {name: _outcome(attempt) for name, attempt in ATTEMPTS.items()}
    json.dump(results, sys.stdout)


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except RuntimeError as error:  # what Python makes of a refused thread
        return str(error)
    return "worked"


def _call(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def _thread() -> None:
    threading.Thread(target=lambda: None).start()


def _connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect(server.getsockname())


def _memfd() -> None:
    fd = os.memfd_create("key")
    os.write(fd, b"secret")
    with open(f"/proc/self/fd/{fd}", "rb") as file:  # noqa: PTH123 - as OpenSSL does
        assert file.read() == b"secret"


ATTEMPTS: dict[str, Callable[[], object]] = {
    "execve": lambda: os.execv("/bin/true", ["true"]),
    "fork": os.fork,
    "thread": _thread,
    "ptrace": lambda: _call(_libc.ptrace(16, _PARENT, None, None)),
    "process_vm_readv": lambda: _call(_libc.process_vm_readv(_PARENT, None, 0, None, 0, 0)),
    "mount": lambda: _call(_libc.mount(b"none", b"/mnt", b"tmpfs", 0, None)),
    "unshare": lambda: _call(_libc.unshare(0x10000000)),
    "setuid": lambda: os.setuid(0),
    "chroot": lambda: os.chroot("/"),
    "kill": lambda: os.kill(_PARENT, 0),
    "prctl": lambda: _call(_libc.prctl(4, 1, 0, 0, 0)),
    "io_uring": lambda: _call(_libc.syscall(425, 1, None)),
    "bpf": lambda: _call(_libc.syscall(321, 0, None, 0)),
    "packet_socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "raw_socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 6),
    "udp_socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "unix_socket": lambda: socket.socket(socket.AF_UNIX),
    "netlink_socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "write_file": lambda: os.open("/dev/shm/x", os.O_WRONLY | os.O_CREAT),
    "append_file": lambda: os.open("/proc/self/comm", os.O_RDWR),
    "mkdir": lambda: os.mkdir("/dev/shm/x"),  # noqa: PTH102
    "unlink": lambda: os.unlink("/dev/shm/x"),  # noqa: PTH108
    "set_mark": lambda: socket.socket().setsockopt(socket.SOL_SOCKET, 36, 0x5B),
    "low_port": lambda: socket.socket().bind(("127.0.0.1", 80)),
    "raise_limit": lambda: _call(_libc.prlimit(0, 7, (ctypes.c_ulong * 2)(1 << 30, 1 << 30), None)),
    "tcp": _connect,
    "read_file": lambda: os.open("/etc/hostname", os.O_RDONLY),
    "memfd": _memfd,
    "late_import": lambda: __import__("wsgiref.headers"),
}


if __name__ == "__main__":
    main()
