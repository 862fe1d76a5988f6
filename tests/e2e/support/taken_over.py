"""A worker's channels in the hands of the test: what code inside it could say."""

import ctypes
import os
import socket
import struct
from pathlib import Path

_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)


def channel_to_control(pid: int) -> socket.socket:
    """A worker's own end of it; who made its far end is another process, unlike with the pair that wakes its loop."""
    pidfd = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if str(entry.readlink()).startswith("socket:"):
                sock = socket.socket(fileno=_libc.syscall(_PIDFD_GETFD, pidfd, int(entry.name), 0))
                if (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_STREAM) and _maker(sock) != pid:
                    return sock
                sock.close()
    finally:
        os.close(pidfd)
    raise AssertionError(f"{pid} has no channel to control")


def _maker(sock: socket.socket) -> int:
    made: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    return made
