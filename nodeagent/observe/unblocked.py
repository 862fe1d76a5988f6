"""Standard error for processes that must never wait: what nobody takes is kept for a while, then dropped and told."""

import io
import os
import select
import socket
import stat
import sys
import threading
from datetime import UTC, datetime

import msgspec

from nodeagent import limits

STDERR = 2


class Unblocked(io.RawIOBase):
    """Takes lines and never waits. Owned by one process.

    Whether a write would wait is a property of the open file, which others may share: it is asked, not set.
    """

    def __init__(self, descriptor: int, process: str) -> None:
        """`process`: as the log calls it."""
        super().__init__()
        self.dropped = 0
        """Lines that were lost and not told yet."""
        self._descriptor = descriptor
        self._process = process
        self._waiting = bytearray()
        self._lock = threading.RLock()
        """The supervisor's second thread, which repairs rules, logs too."""
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        self._socket = socket.socket(fileno=os.dup(descriptor)) if is_socket else None

    def writable(self) -> bool:
        """It is for writing."""
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # bytes are all that loggers and text streams write
        """As if all of it was written."""
        with self._lock:
            if len(self._waiting) + len(data) > limits.STDERR_BYTES_QUEUED:
                self.flush()
            if len(self._waiting) + len(data) > limits.STDERR_BYTES_QUEUED:
                self.dropped += data.count(b"\n")
            else:
                self._waiting += data
                self.flush()
        return len(data)

    def flush(self) -> None:
        """Writes what can be written now; then how much was lost before."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        told = 0
        try:
            self._write_waiting()
            if self.dropped:
                told, self.dropped = self.dropped, 0
                self._waiting += self._loss(told)
                self._write_waiting()
        except BlockingIOError:
            return
        except OSError:  # a full disk, or nobody at the other end
            self.dropped += told or self._waiting.count(b"\n")
            self._waiting.clear()

    def close(self) -> None:
        """Lets go of what is its own."""
        if self._socket:
            self._socket.close()
        super().close()

    def _write_waiting(self) -> None:
        while self._waiting:
            del self._waiting[: self._write_some(bytes(self._waiting[: select.PIPE_BUF]))]

    def _write_some(self, data: bytes) -> int:
        """How much of it was taken.

        Raises:
            OSError: BlockingIOError where nobody takes anything now.
        """
        if self._socket:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        poller = select.poll()
        poller.register(self._descriptor, select.POLLOUT)
        if not poller.poll(0):
            raise BlockingIOError
        return os.write(self._descriptor, data)

    def _loss(self, lines: int) -> bytes:
        at = datetime.now(tz=UTC).isoformat().replace("+00:00", "Z")
        line = {"at": at, "level": "error", "process": self._process, "event": "log_lines_lost", "number": lines}
        return msgspec.json.encode(line) + b"\n"


def unblock_stderr(process: str) -> Unblocked:
    """From now on nothing that this process writes to standard error waits, tracebacks included."""
    stream = Unblocked(STDERR, process)
    sys.stderr = io.TextIOWrapper(stream, errors="backslashreplace", write_through=True)
    return stream


def own_stderr() -> None:
    """Makes standard error an open file of this process and its children: then it is no matter that it does not wait.

    Only of a pipe or terminal: a socket is asked at each write, and a file never waits. Where it cannot be opened anew it stays
    as it is; two of us that write into the last free page of a pipe may then wait for its reader.
    """
    mode = os.fstat(STDERR).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return
    try:
        fresh = os.open(f"/proc/self/fd/{STDERR}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return
    os.dup2(fresh, STDERR)
    os.close(fresh)
