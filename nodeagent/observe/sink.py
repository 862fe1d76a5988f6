"""Where log lines go: a thread writes them, so that a full disk or a journal that stands still holds up nobody else."""

import functools
import os
import queue
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Self

from nodeagent import limits
from nodeagent.observe.log import open_log

_MODE = 0o640

_log = open_log()


class Sink:
    """Takes lines and never waits; what does not fit is counted and dropped. Owned by one process, which closes it."""

    def __init__(
        self, target: BinaryIO | Path, lines: int = limits.LOG_LINES_QUEUED, on_turn: Callable[[str], None] | None = None
    ) -> None:
        """target: an open stream, or a file, which is made where it is not and followed when it is renamed away.

        on_turn: called by the thread that writes, with `error`, when writing begins to fail and when it works again.
        """
        self.error = ""
        """Why the last write failed; empty after one that did not."""
        self._unqueued = self._unwritten = 0  # two, for each is counted by another thread
        self._target = target
        self._on_turn = on_turn
        self._stream: BinaryIO | None = None if isinstance(target, Path) else target
        self._lines: queue.Queue[bytes | None] = queue.Queue(lines)
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def dropped(self) -> int:
        """Lines that were lost."""
        return self._unqueued + self._unwritten

    def write(self, line: bytes) -> None:
        """Queues a line, which ends with a line end."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._unqueued += 1

    def flush(self) -> None:
        """Lines are flushed as they are written: this is for those who expect a stream."""

    def close(self) -> None:
        """Gives what is queued a moment to be written."""
        try:
            self._lines.put(None, timeout=limits.LOG_FAREWELL_S)
        except queue.Full:
            return
        self._thread.join(limits.LOG_FAREWELL_S)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                _write(self._open(), line)
                self._turn("")
            except (OSError, ValueError) as error:  # ValueError: the stream was closed
                self._unwritten += 1
                self._turn(str(error))
                self._forget()
        self._forget()

    def _turn(self, error: str) -> None:
        is_turn, self.error = bool(error) != bool(self.error), error
        if is_turn and self._on_turn:
            self._on_turn(error)

    def _open(self) -> BinaryIO:
        """The stream; of a file, the one that has its name now: logrotate renames the old one away."""
        if not isinstance(self._target, Path):
            return self._target
        if self._stream is not None and not _is_at(self._stream, self._target):
            self._forget()
        if self._stream is None:
            descriptor = os.open(self._target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
            self._stream = os.fdopen(descriptor, "ab")
        return self._stream

    def _forget(self) -> None:
        if isinstance(self._target, Path) and self._stream is not None:
            try:
                self._stream.close()
            except OSError as error:
                self.error = str(error)
            self._stream = None


def open_sink(where: str, journal: Sink | None = None) -> Sink | None:
    """The sink for `stdout` or for a file's path; None for `off`.

    journal: that of standard error, which serves for both where both are one file, so that lines keep their order.
    """
    if where == "off":
        return None
    if where != "stdout":
        return Sink(Path(where), on_turn=functools.partial(_tell_turn, where))
    return journal if journal and os.path.sameopenfile(1, 2) else Sink(unbuffered(sys.stdout.fileno()))


def unbuffered(descriptor: int) -> BinaryIO:
    """A stream of standard output or error for a Sink."""
    return os.fdopen(descriptor, "wb", 0, closefd=False)


def _write(stream: BinaryIO, line: bytes) -> None:
    """All of it, however long that takes: also to a descriptor that does not wait by itself."""
    rest = memoryview(line)
    while rest:
        taken: int | None = stream.write(rest)
        if taken is None:  # what an unbuffered stream says then
            poller = select.poll()
            poller.register(stream, select.POLLOUT)
            poller.poll()
        rest = rest[taken or 0 :]
    stream.flush()


def _tell_turn(where: str, error: str) -> None:
    """In the journal: a log that is not written cannot say so itself."""
    if error:
        cure = "is there room, and may the agent's user (host.control_user) write to its directory?"
        _log.error("connection_log_failed", path=where, error=error, cure=cure)
    else:
        _log.warning("connection_log_written_again", path=where)


def _is_at(stream: BinaryIO, path: Path) -> bool:
    """Whether the stream is the file that has this name now."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False
