"""A socket inside a host's network, for a process that stays outside."""

import ctypes
import os
import socket
import threading

_CLONE_NEWNET = 0x40000000


def connect_in(holder_pid: int, address: tuple[str, int], timeout_s: float) -> socket.socket:
    """A TCP connection made inside the network namespace of `holder_pid`.

    A socket stays in the namespace it was made in, and only the thread that makes it needs to enter:
    the process, and every other thread, stays where it is.

    Raises:
        OSError: no such namespace, or the connection failed.
    """
    outcome: list[socket.socket | OSError] = []
    thread = threading.Thread(target=_connect, args=(holder_pid, address, timeout_s, outcome))
    thread.start()
    thread.join()
    if isinstance(outcome[0], OSError):
        raise outcome[0]
    return outcome[0]


def _connect(
    holder_pid: int, address: tuple[str, int], timeout_s: float, outcome: list[socket.socket | OSError]
) -> None:
    try:
        _enter(holder_pid)
        outcome.append(socket.create_connection(address, timeout=timeout_s))
    except OSError as error:
        outcome.append(error)


def _enter(holder_pid: int) -> None:
    """Moves this thread; `os.setns` exists from Python 3.12 on."""
    namespace = os.open(f"/proc/{holder_pid}/ns/net", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(namespace)
