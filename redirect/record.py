"""What apply changed outside our own tables, on disk: so that remove restores it. The file is also the lock of writers."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redirect.errors import RedirectError
from redirect.routing import Entry, LocalRoute, PolicyRule
from redirect.settings import OUTBOUND_PORT, TUNNEL_PORT, ReturnPath

RECORD_PATH = Path("/run/nodeagent/intercept.json")
LOCK_S = 2.0  # an apply takes a tenth of a second; a supervisor that waits here does not beat, and has five
_LOCK_RETRY_S = 0.02
_VERSION = 1
_BYTES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Record:
    """What there was before, and what is ours."""

    entries: tuple[Entry, ...] = ()
    """Policy rules and routes that apply added; those that were there before are not ours to remove."""
    fwmark_accept: str | None = None
    """The sysctl's value before apply changed it; None if it did not."""
    outbound_port: int = OUTBOUND_PORT
    tunnel_port: int = TUNNEL_PORT
    upstream_mark: int = ReturnPath().mark


@dataclass(frozen=True, slots=True)
class RecordFile:
    """The open, locked file. Owned by `locked_record`, valid inside its `with` block."""

    descriptor: int

    def read(self) -> Record | None:
        """What an earlier apply wrote; None if nothing, or nothing that can be understood: the file is ours alone."""
        text = os.pread(self.descriptor, _BYTES_MAX, 0).decode(errors="replace")
        try:
            return decode_record(text)
        except (ValueError, TypeError, KeyError):
            return None

    def write(self, record: Record | None) -> None:
        """Replaces the content; None empties the file, which is then removed at the end of the block."""
        data = encode_record(record).encode() if record else b""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, data, 0)


@contextmanager
def locked_record(path: Path, *, wait_s: float = LOCK_S) -> Iterator[RecordFile]:
    """The record, with no other process changing it or the rules.

    Raises:
        RedirectError: the file cannot be opened, or another process holds it for too long.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = _open_locked(path, wait_s)
    except OSError as error:
        raise RedirectError(f"{path} cannot be opened: {error}; intercept needs root") from error
    try:
        yield RecordFile(descriptor)
    finally:
        if os.fstat(descriptor).st_size == 0:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def encode_record(record: Record) -> str:
    """The record as JSON."""
    entries = [["rule" if isinstance(e, PolicyRule) else "route", *e] for e in record.entries]
    return json.dumps({
        "version": _VERSION, "entries": entries, "fwmark_accept": record.fwmark_accept, "outbound_port": record.outbound_port,
        "tunnel_port": record.tunnel_port, "upstream_mark": record.upstream_mark,
    })  # fmt: skip


def decode_record(text: str) -> Record:
    """The record in this JSON.

    Raises:
        ValueError, TypeError, KeyError: it is not one of ours.
    """
    data = json.loads(text)
    if data["version"] != _VERSION:
        raise ValueError(f"record version {data['version']}")
    entries = tuple(PolicyRule(*rest) if kind == "rule" else LocalRoute(*rest) for kind, *rest in data["entries"])
    return Record(entries, data["fwmark_accept"], data["outbound_port"], data["tunnel_port"], data["upstream_mark"])


def _open_locked(path: Path, wait_s: float) -> int:
    deadline = time.monotonic() + wait_s
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if _try_lock(descriptor):
            return descriptor
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise RedirectError(
                f"{path}: another process has been changing the rules for {wait_s:g} s; see `fuser {path}`"
            )
        time.sleep(_LOCK_RETRY_S)


def _try_lock(descriptor: int) -> bool:
    """False if another process holds it, or has just removed the file that we opened."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0
