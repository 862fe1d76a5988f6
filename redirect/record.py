"""What apply changed outside our own tables, on disk: so that remove restores it. The file is also the lock of writers."""

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redirect.errors import RedirectError
from redirect.routing import Entry, LocalRoute, PolicyRule
from redirect.rules import Family
from redirect.settings import OUTBOUND_PORT, TUNNEL_PORT, ReturnPath
from redirect.sysctl import SYSCTLS

RECORD_PATH = Path("/run/nodeagent/intercept.json")
LOCK_S = 2.0  # an apply takes a tenth of a second; a supervisor that waits here does not beat, and has five
_LOCK_RETRY_S = 0.02
_NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)  # what open() says of a link, a directory and a socket
_VERSION = 2  # 1 knew one sysctl, tcp_fwmark_accept, as a field of its own
_BYTES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Record:
    """What there was before, and what is ours."""

    entries: tuple[Entry, ...] = ()
    """Policy rules and routes that apply added; those that were there before are not ours to remove."""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """Name -> value before apply changed it; none that it did not change."""
    outbound_port: int = OUTBOUND_PORT
    tunnel_port: int = TUNNEL_PORT
    upstream_mark: int = ReturnPath().mark


@dataclass(frozen=True, slots=True)
class RecordFile:
    """The open, locked file. Owned by `locked_record`, valid inside its `with` block."""

    descriptor: int
    path: Path
    """Where it is, for messages."""

    def read(self) -> Record | None:
        """What an earlier apply wrote; None if nothing, or nothing that can be understood: the file is ours alone."""
        # Zeros: a write that ended when it had room and nothing more.
        text = os.pread(self.descriptor, _BYTES_MAX, 0).rstrip(b"\0").decode(errors="replace")
        try:
            return decode_record(text)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def write(self, record: Record | None) -> None:
        """Replaces the content; None empties the file, which is then removed at the end of the block.

        Raises:
            RedirectError: there is no room for it; the file is as it was.
        """
        data = encode_record(record).encode() if record else b""
        try:
            if data:
                self._overwrite(data)
            os.ftruncate(self.descriptor, len(data))
        except OSError as error:
            raise RedirectError(f"{self.path} cannot be written: {error.strerror}; make room there") from error

    def _overwrite(self, data: bytes) -> None:
        """Room first, then all bytes at once, over the whole of what was there: at no time is it neither old nor new."""
        os.posix_fallocate(self.descriptor, 0, len(data))
        data = data.ljust(os.fstat(self.descriptor).st_size)
        if os.pwrite(self.descriptor, data, 0) != len(data):
            raise OSError(errno.EIO, "written in part")


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
        cure = "; intercept needs root" if isinstance(error, PermissionError) else ""
        raise RedirectError(f"{path} cannot be opened: {error}{cure}") from error
    try:
        yield RecordFile(descriptor, path)
    finally:
        if os.fstat(descriptor).st_size == 0:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def encode_record(record: Record) -> str:
    """The record as JSON."""
    entries = [["rule" if isinstance(e, PolicyRule) else "route", *e] for e in record.entries]
    return json.dumps({
        "version": _VERSION, "entries": entries, "sysctls": dict(record.sysctls), "outbound_port": record.outbound_port,
        "tunnel_port": record.tunnel_port, "upstream_mark": record.upstream_mark,
    })  # fmt: skip


def decode_record(text: str) -> Record:
    """The record in this JSON; also one that an older version wrote.

    Raises:
        ValueError, TypeError, KeyError, OverflowError, RecursionError: it is not one of ours.
    """
    data = json.loads(text)
    if data["version"] not in (1, _VERSION):
        raise ValueError(f"record version {data['version']}")
    return Record(
        entries=tuple(_decode_entry(*entry) for entry in data["entries"]),
        sysctls=_decode_sysctls(data),
        outbound_port=int(data["outbound_port"]),
        tunnel_port=int(data["tunnel_port"]),
        upstream_mark=int(data["upstream_mark"]),
    )


def _decode_entry(kind: str, family: Family, *numbers: int) -> Entry:
    if family not in (4, 6) or not all(isinstance(number, int) for number in numbers):
        raise ValueError(f"{kind} of family {family} with {numbers}")
    return PolicyRule(family, *numbers) if kind == "rule" else LocalRoute(family, *numbers)


def _decode_sysctls(data: dict[str, Any]) -> dict[str, str]:
    """Of those that are ours to restore: what else a file may name is never written."""
    if data["version"] == 1:
        before = {"net.ipv4.tcp_fwmark_accept": data["fwmark_accept"]} if data["fwmark_accept"] else {}
    else:
        before = data["sysctls"]
    return {s.name: str(int(before[s.name])) for s in SYSCTLS if s.name in before}


def _open_locked(path: Path, wait_s: float) -> int:
    deadline = time.monotonic() + wait_s
    while True:
        descriptor = _try_open(path)
        if descriptor is None:
            _clear(path)
        elif _try_lock(descriptor):
            return descriptor
        else:
            os.close(descriptor)
        if time.monotonic() > deadline:
            raise RedirectError(
                f"{path}: another process has been changing the rules for {wait_s:g} s; see `fuser {path}`"
            )
        time.sleep(_LOCK_RETRY_S)


def _try_open(path: Path) -> int | None:
    """The file, made where there is none; None if what is there was planted: the directory is not ours alone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno in _NO_FILE:
            return None
        raise
    if _is_planted(os.fstat(descriptor)):
        os.close(descriptor)
        return None
    return descriptor


def _is_planted(found: os.stat_result) -> bool:
    """Whether it is no file, another user has made it, or it is a second name for one of ours."""
    return not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1


def _clear(path: Path) -> None:
    """Makes room for a file of ours, whatever has its name. A directory may be full of anything: it is moved aside."""
    try:
        path.unlink(missing_ok=True)
    except IsADirectoryError:
        path.rename(path.with_name(f"{path.name}.planted-{time.time_ns()}"))


def _try_lock(descriptor: int) -> bool:
    """False if another process holds it, or has just removed the file that we opened."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0
