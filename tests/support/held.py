"""A process that SIGKILL does not end, as one that a hung disk holds in the kernel: it is stopped at its exit, by ptrace(2)."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_SEIZE, _DETACH, _TRACE_EXIT, _WALL = 0x4206, 17, 0x40, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


@contextmanager
def held(pid: int) -> Iterator[None]:
    """Whoever kills it meanwhile waits for its end in vain; afterwards it ends."""
    _ptrace(_SEIZE, pid, _TRACE_EXIT)
    try:
        yield
    finally:
        os.waitpid(pid, _WALL)
        _ptrace(_DETACH, pid, 0)


def _ptrace(request: int, pid: int, data: int) -> None:
    if _libc.ptrace(request, pid, None, data):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
